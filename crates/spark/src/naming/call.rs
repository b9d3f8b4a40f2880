//! What Spark calls a function call: its own spelling of the name, and arguments that the user may leave out.

/// Functions that Spark prints in capitals.
const CAPITALS: &[&str] = &[
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "csc",
    "degrees",
    "e",
    "exp",
    "expm1",
    "floor",
    "hypot",
    "log",
    "log10",
    "log1p",
    "log2",
    "pi",
    "power",
    "radians",
    "regexp",
    "regexp_like",
    "rlike",
    "sec",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
];

/// Functions that Spark prints under another of their names.
const RENAMED: &[(&str, &str)] = &[
    ("array_agg", "collect_list"),
    ("contains", "contains"),
    ("countdistinct", "count"),
    ("current_database", "current_schema"),
    ("dateadd", "date_add"),
    ("endswith", "endswith"),
    ("to_varchar", "to_char"),
    ("spark_partition_id", "SPARK_PARTITION_ID"),
    ("startswith", "startswith"),
];

/// The order of `array_sort` that is not given: NULLs last.
const LEAST_FIRST: &str = "lambdafunction((IF(((namedlambdavariable() IS NULL) AND (namedlambdavariable() IS NULL)), \
0, (IF((namedlambdavariable() IS NULL), 1, (IF((namedlambdavariable() IS NULL), -1, (IF((namedlambdavariable() < \
namedlambdavariable()), -1, (IF((namedlambdavariable() > namedlambdavariable()), 1, 0)))))))))), \
namedlambdavariable(), namedlambdavariable())";

/// The argument that is shown for one that is left out: function, how many arguments are given, the text.
const IMPLIED: &[(&str, usize, &str)] = &[
    ("aggregate", 3, "lambdafunction(namedlambdavariable(), namedlambdavariable())"),
    ("array_sort", 1, LEAST_FIRST),
    ("bround", 1, "0"),
    ("current_time", 0, "6"),
    ("hll_sketch_agg", 1, "12"),
    ("hll_union", 2, "false"),
    ("hll_union_agg", 1, "false"),
    ("listagg", 1, "NULL"),
    ("locate", 2, "1"),
    ("lpad", 2, " "),
    ("mask", 1, "X, x, n, NULL"),
    ("mask", 2, "x, n, NULL"),
    ("mask", 3, "n, NULL"),
    ("mask", 4, "NULL"),
    ("months_between", 2, "true"),
    ("overlay", 3, "-1"),
    ("approx_percentile", 2, "10000"),
    ("percentile", 2, "1"),
    ("percentile_approx", 2, "10000"),
    ("position", 2, "1"),
    ("regexp_extract", 2, "1"),
    ("regexp_extract_all", 2, "1"),
    ("regexp_instr", 2, "0"),
    ("reduce", 3, "lambdafunction(namedlambdavariable(), namedlambdavariable())"),
    ("regexp_replace", 3, "1"),
    ("replace", 2, ""),
    ("round", 1, "0"),
    ("rpad", 2, " "),
    ("sentences", 1, ", "),
    ("sentences", 2, ""),
    ("str_to_map", 1, ",, :"),
    ("str_to_map", 2, ":"),
    ("sort_array", 1, "true"),
    ("vector_norm", 1, "2.0"),
    ("vector_normalize", 1, "2.0"),
    ("to_unix_timestamp", 1, "yyyy-MM-dd HH:mm:ss"),
    ("unix_timestamp", 1, "yyyy-MM-dd HH:mm:ss"),
    ("from_unixtime", 1, "yyyy-MM-dd HH:mm:ss"),
    ("split", 2, "-1"),
    ("string_agg", 1, "NULL"),
    ("substr", 2, "2147483647"),
    ("substring", 2, "2147483647"),
];

/// Functions whose last arguments are not shown: how many are.
const SHORTENED: &[(&str, usize)] = &[
    ("any_value", 1),
    ("first", 1),
    ("from_csv", 1),
    ("from_json", 1),
    ("from_xml", 1),
    ("first_value", 1),
    ("last", 1),
    ("last_value", 1),
    ("mode", 1),
    ("schema_of_csv", 1),
    ("schema_of_json", 1),
    ("schema_of_xml", 1),
    ("shuffle", 1),
    ("to_csv", 1),
    ("to_json", 1),
    ("to_xml", 1),
    ("try_make_timestamp", 6),
    ("try_variant_get", 2),
    ("uuid", 0),
    ("variant_get", 2),
];

/// The name of a call whose arguments print as `args`.
pub(crate) fn call_name(name: &str, args: &[String], distinct: bool) -> String {
    let lower = name.to_ascii_lowercase();
    match (lower.as_str(), args) {
        ("isnull", [arg]) => return format!("({arg} IS NULL)"),
        ("isnotnull", [arg]) => return format!("({arg} IS NOT NULL)"),
        ("if", [condition, then, otherwise]) => return format!("(IF({condition}, {then}, {otherwise}))"),
        ("from_json", [_, schema, ..]) if schema.trim_start().to_ascii_uppercase().starts_with("MAP<") => {
            return "entries".to_owned();
        }
        ("log", [arg]) => return format!("LOG(E(), {arg})"),
        ("positive", [arg]) => return format!("(+ {arg})"),
        ("bitwise_not", [arg]) => return format!("~{arg}"),
        ("trim", [what, text]) => return format!("TRIM(BOTH {what} FROM {text})"),
        ("ltrim", [what, text]) => return format!("TRIM(LEADING {what} FROM {text})"),
        ("rtrim", [what, text]) => return format!("TRIM(TRAILING {what} FROM {text})"),
        // `true` has `mode` take the least of several, which is the order Spark names.
        ("mode", [arg, deterministic]) if deterministic == "true" => {
            return format!("mode() WITHIN GROUP (ORDER BY {arg} DESC)");
        }
        ("assert_true", [condition]) => return format!("assert_true({condition}, '{condition}' is not true!)"),
        _ => {}
    }
    let mut shown: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Some((_, count)) = SHORTENED.iter().find(|(function, _)| *function == lower) {
        shown.truncate(*count);
    }
    shown.extend(IMPLIED.iter().find(|(function, count, _)| *function == lower && *count == args.len()).map(|i| i.2));
    let renamed = RENAMED.iter().find(|(function, _)| *function == lower).map(|(_, spelling)| *spelling);
    let spelling = match renamed {
        Some(spelling) => spelling.to_owned(),
        // Cut to decimals they are functions of other names.
        None if args.len() == 2 && matches!(lower.as_str(), "ceil" | "ceiling" | "floor") => lower.clone(),
        None if CAPITALS.contains(&lower.as_str()) => lower.to_ascii_uppercase(),
        None => name.to_owned(),
    };
    format!("{spelling}({}{})", if distinct { "DISTINCT " } else { "" }, shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::call_name;

    #[test]
    fn calls_are_named_as_in_spark() {
        for (name, args, expected) in [
            ("acos", &["x"][..], "ACOS(x)"),
            ("pi", &[], "PI()"),
            ("ceil", &["x"], "CEIL(x)"),
            ("ceil", &["x", "1"], "ceil(x, 1)"),
            ("from_json", &["x", "a INT"], "from_json(x)"),
            ("round", &["x"], "round(x, 0)"),
            ("round", &["x", "2"], "round(x, 2)"),
            ("first", &["x", "true"], "first(x)"),
            ("trim", &["x"], "trim(x)"),
            ("trim", &["-", "x"], "TRIM(BOTH - FROM x)"),
            ("current_database", &[], "current_schema()"),
            ("my_function", &["a", "b"], "my_function(a, b)"),
        ] {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(call_name(name, &args, false), expected);
        }
        assert_eq!(call_name("sum", &["x".to_owned()], true), "sum(DISTINCT x)");
    }
}
