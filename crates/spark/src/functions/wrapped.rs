//! Aggregates that do what another does, but for how they see its rows.

/// What an aggregate that wraps another, its field `0`, has in common with it: name, signature, types and defaults.
macro_rules! face_of_inner {
    () => {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn signature(&self) -> &datafusion::logical_expr::Signature {
            self.0.signature()
        }

        fn coerce_types(
            &self,
            types: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<Vec<arrow::datatypes::DataType>> {
            self.0.coerce_types(types)
        }

        fn return_type(
            &self,
            types: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<arrow::datatypes::DataType> {
            self.0.return_type(types)
        }

        fn return_field(
            &self,
            fields: &[arrow::datatypes::FieldRef],
        ) -> datafusion::common::Result<arrow::datatypes::FieldRef> {
            self.0.return_field(fields)
        }

        fn is_nullable(&self) -> bool {
            self.0.is_nullable()
        }

        fn default_value(
            &self,
            data_type: &arrow::datatypes::DataType,
        ) -> datafusion::common::Result<datafusion::common::ScalarValue> {
            self.0.default_value(data_type)
        }

        fn supports_null_handling_clause(&self) -> bool {
            self.0.supports_null_handling_clause()
        }
    };
}

pub(super) use face_of_inner;
