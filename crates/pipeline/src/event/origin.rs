//! Where an event comes from: pipeline, update, flow, dataset. One list gives the struct and its Arrow columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

macro_rules! origin {
    (text { $($text:ident: $text_doc:literal,)+ } number { $($number:ident: $number_doc:literal,)+ }) => {
        /// Where an event comes from. Only what applies is set.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Origin {
            $(#[doc = $text_doc] #[serde(skip_serializing_if = "Option::is_none")] pub $text: Option<String>,)+
            $(#[doc = $number_doc] #[serde(skip_serializing_if = "Option::is_none")] pub $number: Option<i64>,)+
        }

        impl Origin {
            /// The fields of the event log's `origin` column.
            pub(crate) fn arrow_fields() -> Fields {
                Fields::from(vec![
                    $(Field::new(stringify!($text), DataType::Utf8, true),)+
                    $(Field::new(stringify!($number), DataType::Int64, true),)+
                ])
            }

            /// The columns of `origins`, in the order of [`Origin::arrow_fields`].
            pub(crate) fn columns(origins: &[&Origin]) -> Vec<ArrayRef> {
                vec![
                    $(Arc::new(origins.iter().map(|o| o.$text.as_deref()).collect::<StringArray>()) as ArrayRef,)+
                    $(Arc::new(origins.iter().map(|o| o.$number).collect::<Int64Array>()) as ArrayRef,)+
                ]
            }

            /// Row `row` of such columns; `column` gives a column by name, if the table has it.
            pub(crate) fn from_columns(column: impl Fn(&str) -> Option<ArrayRef>, row: usize) -> Origin {
                Origin {
                    $($text: column(stringify!($text)).and_then(|array| text(&array, row)),)+
                    $($number: column(stringify!($number)).and_then(|array| number(&array, row)),)+
                }
            }

            /// Applies `change` to every text.
            pub(crate) fn for_each_text(&mut self, mut change: impl FnMut(&mut String)) {
                $(if let Some(text) = &mut self.$text { change(text); })+
            }
        }
    };
}

origin! {
    text {
        pipeline_id: "The pipeline.",
        pipeline_name: "The pipeline's name.",
        pipeline_type: "`WORKSPACE` for pipelines of source files.",
        update_id: "The update.",
        request_id: "The update that was asked for; retries of it share this id.",
        dataset_name: "The dataset, qualified as published.",
        table_name: "The table, where the dataset is one.",
        sink_name: "The sink.",
        flow_id: "Changes when the flow starts from nothing: full refresh, complete recompute.",
        flow_name: "The flow, qualified.",
        materialization_name: "The table that holds the dataset's rows, where it has another name.",
        table_id: "The Delta table's id.",
        cluster_id: "The cluster.",
        host: "The machine.",
        cloud: "The cloud provider.",
        region: "The cloud region.",
        uc_resource_id: "The catalog's id of the pipeline.",
        maintenance_id: "The maintenance run.",
        ingestion_source_catalog_name: "The ingested table's catalog.",
        ingestion_source_schema_name: "The ingested table's schema.",
        ingestion_source_table_name: "The ingested table.",
        ingestion_source_table_version: "The ingested table's version.",
        ingestion_source_connection_name: "The connection it is ingested through.",
    }
    number {
        batch_id: "The batch of the flow.",
        org_id: "The workspace.",
    }
}

fn text(array: &ArrayRef, row: usize) -> Option<String> {
    let array = array.as_any().downcast_ref::<StringArray>()?;
    (row < array.len() && array.is_valid(row)).then(|| array.value(row).to_owned())
}

fn number(array: &ArrayRef, row: usize) -> Option<i64> {
    let array = array.as_any().downcast_ref::<Int64Array>()?;
    (row < array.len() && array.is_valid(row)).then(|| array.value(row))
}
