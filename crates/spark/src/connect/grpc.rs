//! The gRPC surface: the protocol's methods, routed by path to one handler each.
//!
//! The proto crate generates messages and a client, but no server; this is the server's half.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, BoxStream, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::proto;
use super::service::ConnectService;

/// The largest request: the limit of the stock client's responses.
const MAX_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// The Spark Connect service on the wire.
#[derive(Clone)]
pub(super) struct ConnectServer(pub Arc<ConnectService>);

impl NamedService for ConnectServer {
    const NAME: &'static str = "spark.connect.SparkConnectService";
}

/// A handler as the kind of service that tonic calls.
#[derive(Clone)]
struct Handler<F>(F);

impl<F, Q, A, Fut> Service<Request<Q>> for Handler<F>
where
    F: Fn(Request<Q>) -> Fut,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
    A: Send + 'static,
{
    type Response = Response<A>;
    type Error = Status;
    type Future = BoxFuture<Response<A>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async move { answer.await.map(Response::new) })
    }
}

/// The answers of an execution.
type Responses = BoxStream<proto::ExecutePlanResponse>;

/// Starts an execution.
struct Execute(Arc<ConnectService>);

impl ServerStreamingService<proto::ExecutePlanRequest> for Execute {
    type Response = proto::ExecutePlanResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<Response<Responses>, Status>;

    fn call(&mut self, request: Request<proto::ExecutePlanRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.execute_plan(request.into_inner()).await.map(Response::new) })
    }
}

/// Goes on with an execution.
struct Reattach(Arc<ConnectService>);

impl ServerStreamingService<proto::ReattachExecuteRequest> for Reattach {
    type Response = proto::ExecutePlanResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<Response<Responses>, Status>;

    fn call(&mut self, request: Request<proto::ReattachExecuteRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.reattach_execute(request.into_inner()).await.map(Response::new) })
    }
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: prost::Message + Send + 'static,
    Q: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Answers one unary method with a handler of the service.
macro_rules! unary {
    ($service:expr, $request:expr, $method:ident, $in:ty, $out:ty) => {{
        let service = Arc::clone(&$service);
        let handler = Handler(move |request: Request<$in>| {
            let service = Arc::clone(&service);
            async move { service.$method(request.into_inner()).await }
        });
        Ok(grpc::<$out, $in>().unary(handler, $request).await)
    }};
}

impl Service<http::Request<Body>> for ConnectServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if let Err(status) = service.authorize(request.headers()) {
                return Ok(status.into_http());
            }
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            match method.as_str() {
                "ExecutePlan" => Ok(grpc().server_streaming(Execute(service), request).await),
                "ReattachExecute" => Ok(grpc().server_streaming(Reattach(service), request).await),
                "AnalyzePlan" => {
                    unary!(service, request, analyze_plan, proto::AnalyzePlanRequest, proto::AnalyzePlanResponse)
                }
                "Config" => unary!(service, request, config, proto::ConfigRequest, proto::ConfigResponse),
                "ArtifactStatus" => unary!(
                    service,
                    request,
                    artifact_status,
                    proto::ArtifactStatusesRequest,
                    proto::ArtifactStatusesResponse
                ),
                "Interrupt" => unary!(service, request, interrupt, proto::InterruptRequest, proto::InterruptResponse),
                "ReleaseExecute" => {
                    unary!(
                        service,
                        request,
                        release_execute,
                        proto::ReleaseExecuteRequest,
                        proto::ReleaseExecuteResponse
                    )
                }
                "ReleaseSession" => {
                    unary!(
                        service,
                        request,
                        release_session,
                        proto::ReleaseSessionRequest,
                        proto::ReleaseSessionResponse
                    )
                }
                "CloneSession" => {
                    unary!(service, request, clone_session, proto::CloneSessionRequest, proto::CloneSessionResponse)
                }
                "GetStatus" => unary!(service, request, get_status, proto::GetStatusRequest, proto::GetStatusResponse),
                "FetchErrorDetails" => unary!(
                    service,
                    request,
                    fetch_error_details,
                    proto::FetchErrorDetailsRequest,
                    proto::FetchErrorDetailsResponse
                ),
                "AddArtifacts" => {
                    let handler = Handler(move |request: Request<Streaming<proto::AddArtifactsRequest>>| {
                        let service = Arc::clone(&service);
                        async move { service.add_artifacts(request.into_inner()).await }
                    });
                    let mut grpc = grpc::<proto::AddArtifactsResponse, proto::AddArtifactsRequest>();
                    Ok(grpc.client_streaming(handler, request).await)
                }
                other => Ok(Status::unimplemented(format!("method `{other}` is not supported")).into_http()),
            }
        })
    }
}
