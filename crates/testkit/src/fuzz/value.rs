//! Random values as SQL text, and as parameters of prepared statements.

use fastrand::Rng;
use mysql::Value;

/// A random element of a list.
pub(super) fn pick<'a, T: ?Sized>(rng: &mut Rng, list: &[&'a T]) -> &'a T {
    // Every list in this module is a constant with elements.
    list.get(rng.usize(..list.len().max(1))).copied().unwrap_or_else(|| unreachable!("an empty list"))
}

/// Models of set_up.sql, models that need no registration, and models that do not exist.
const MODELS: [&str; 20] = [
    "'ok'",
    "'ok'",
    "'ok'",
    "'dummy'",
    "'dummy'",
    "'key'",
    "'chat'",
    "'echo'",
    "'hang'",
    "'drip'",
    "'e503'",
    "'e400'",
    "'wide'",
    "'nan'",
    "'deep'",
    "'reset'",
    "'fn'",
    "'fails'",
    "'missing'",
    "'text-embedding-005'",
];
const TABLES: [&str; 12] = [
    "'fz.docs'",
    "'fz.docs'",
    "'fz.docs'",
    "'fz.pairs'",
    "'fz.empty_one'",
    "'fz.`odd ``name?`'",
    "'docs'",
    "'fz.missing'",
    "'mysql.user'",
    "'information_schema.TABLES'",
    "'fz.docs; DROP TABLE fz.docs'",
    "NULL",
];
const CONTENT_COLUMNS: [&str; 14] = [
    "'body'",
    "'body'",
    "'body'",
    "'CONCAT(body, n)'",
    "'raw'",
    "'j'",
    "'d'",
    "'missing'",
    "'v'",
    "'`b``ody`'",
    "'SLEEP(0.01)'",
    "'( SELECT MAX(body) FROM fz.pairs)'",
    "'body); DROP TABLE fz.docs; --'",
    "'\"?\"'",
];
const EMBEDDING_COLUMNS: [&str; 8] = ["'v'", "'v'", "'w'", "'`v?`'", "'body'", "'note'", "'missing'", "NULL"];
const OPTIONS: [&str; 16] = [
    "'{}'",
    "NULL",
    "'{\"batch_size\": 2}'",
    "'{\"concurrency\": 3}'",
    "'{\"where\": \"id < 3\"}'",
    "'{\"where\": \"1=1; x\"}'",
    "'{\"max_retries\": 1, \"timeout_ms\": 50}'",
    "'{\"dimensions\": 8}'",
    "'{\"unknown\": 1}'",
    "'[]'",
    "'{\"on_error\": \"inline\"}'",
    "'{\"max_in_flight\": 1}'",
    "'{\"requests_per_minute\": 2000}'",
    "'{\"headers\": {\"x-a\": \"b\"}}'",
    "'{\"normalize\": true}'",
    "'{\"batch_size\": -1}'",
];
const JSON: [&str; 10] = [
    "'{}'",
    "'[]'",
    "'[\"a\", null, \"b\", \"\"]'",
    "'{\"input\": \"x\"}'",
    "'{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}'",
    "JSON_ARRAY('a', 1, NULL, NOW())",
    "JSON_OBJECT('k', JSON_ARRAY(1.5, TRUE))",
    "CONCAT(REPEAT('[', 90), REPEAT(']', 90))",
    "CONCAT(REPEAT('{\"a\":', 2000), '1', REPEAT('}', 2000))",
    "CAST('\"text\"' AS JSON)",
];
const VECTORS: [&str; 14] = [
    "STRING_TO_VECTOR('[1,2,3,4,5,6,7,8]')",
    "STRING_TO_VECTOR('[0,0,0,0,0,0,0,0]')",
    "x'0000803f'",
    "x'0000807f'",
    "x'0000c07f'",
    "x'00008000'",
    "x'000080'",
    "x''",
    "x'0000803f00000040'",
    "STRING_TO_VECTOR('[1e38,1e38]')",
    "REPEAT(x'0000803f', 16383)",
    "REPEAT(x'0000803f', 16384)",
    "'[1,2,3]'",
    "NULL",
];
const TEXTS: [&str; 16] = [
    "'x'",
    "'two words'",
    "''",
    "' '",
    "NULL",
    "'Ünïcödé 🐬'",
    "REPEAT('lorem ipsum ', 400)",
    "REPEAT('x', 300000)",
    "_latin1 x'e9'",
    "_utf8mb4 x'f09f90ac'",
    "x'c328ff'",
    "CONVERT('text' USING utf16)",
    "CHAR(0, 1, 2)",
    "'quote '' and \\\\ \"'",
    "_binary 'text'",
    "'\\u0000'",
];
const OTHERS: [&str; 34] = [
    "NULL",
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "-9223372036854775808",
    "1e308",
    "-0e0",
    "0.1",
    "99999999999999999999.9999999999",
    "TRUE",
    "DATE'2024-02-29'",
    "TIME'-838:59:59'",
    "TIMESTAMP'1970-01-01 00:00:01.000001'",
    "NOW(6)",
    "b'101'",
    "x'00'",
    "ST_GeomFromText('POINT(1 1)')",
    "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')",
    "@u",
    "@never_set",
    "@@sql_mode",
    "UUID()",
    "RAND()",
    "1/0",
    "CAST('a' AS CHAR(3) CHARACTER SET latin1)",
    "CAST(1 AS UNSIGNED)",
    "CAST('2024-01-01' AS DATETIME)",
    "USER()",
    "JSON_EXTRACT('{\"a\": 1}', '$.a')",
    "POINT(1, 2)",
    "INET6_ATON('::1')",
    "COMPRESS('x')",
    "DATABASE()",
];
const SUBQUERIES: [&str; 8] = [
    "(SELECT MAX(body) FROM fz.docs)",
    "(SELECT v FROM fz.docs WHERE id = 1)",
    "(SELECT 'x' UNION SELECT 'x')",
    "(SELECT COUNT(*) FROM fz.docs)",
    "(SELECT body FROM fz.docs)",
    "(SELECT NULL)",
    "EXISTS(SELECT 1 FROM fz.pairs)",
    "(WITH c AS (SELECT 'y' AS y) SELECT y FROM c)",
];
const COLUMNS: [&str; 10] = ["id", "body", "raw", "n", "d", "j", "v", "w", "note", "CONCAT(body, id)"];
const PROVIDERS: [&str; 12] = [
    "'open_ai'",
    "'google'",
    "'anthropic'",
    "'custom'",
    "'dummy'",
    "'cohere'",
    "'voyage'",
    "'mistral'",
    "'ollama'",
    "'hugging_face'",
    "'local'",
    "'none'",
];
const SETTINGS: [&str; 9] = [
    "'timeout_ms'",
    "'max_retries'",
    "'registry_ttl_ms'",
    "'cache_memory_mb'",
    "'cache_disk_mb'",
    "'max_response_mb'",
    "'egress_allowlist'",
    "'secret_ttl_ms'",
    "'unknown'",
];

/// The parts allowed in an expression.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// The columns of `fz.docs`.
    pub(super) columns: bool,
    /// Subqueries.
    pub(super) subqueries: bool,
}

/// A value of any type.
pub(super) fn any(rng: &mut Rng, scope: Scope) -> String {
    let list: &[&str] = match rng.u8(..10) {
        0..3 => &TEXTS,
        3 => &JSON,
        4 => &VECTORS,
        5 if scope.subqueries => &SUBQUERIES,
        6 | 7 if scope.columns => &COLUMNS,
        _ => &OTHERS,
    };
    pick(rng, list).to_owned()
}

/// A value for a parameter, most often a sensible one.
pub(super) fn for_parameter(rng: &mut Rng, name: &str, scope: Scope) -> String {
    if rng.u8(..10) < 3 {
        return any(rng, scope);
    }
    let columns: &[&str] = &["body", "body", "raw", "note", "CONCAT(body, id)"];
    let list: &[&str] = match name {
        "content" | "prompt" | "input_text" | "key" | "image" if scope.columns && rng.bool() => columns,
        "a" | "b" if scope.columns && rng.bool() => &["v", "w", "raw"],
        "a" | "b" => &VECTORS,
        "model_id" => &MODELS,
        "table_name" => &TABLES,
        "content_column" => &CONTENT_COLUMNS,
        "embedding_column" => &EMBEDDING_COLUMNS,
        "options" => &OPTIONS,
        "contents" | "request_body" | "response_json" => &JSON,
        "model_provider" => &PROVIDERS,
        "model_type" => &["'text_embedding'", "'llm'", "'generic'", "'reranking'", "NULL"],
        "model_request_url" => &[
            "NULL",
            "'https://models.example/v1'",
            "'http://127.0.0.1:1/v1/embeddings'",
            "'ftp://x'",
            "'https://u:p@h/'",
        ],
        "secret_id" | "model_auth_id" => &["'s_env'", "'s_file'", "'s_new'", "NULL"],
        "model_auth_type" => &["NULL", "'secret_manager'", "'nothing'"],
        "secret_path" => &[
            "'env:MYSQL_ML_SECRET_TEST'",
            "'file:endpoint-key'",
            "'file:../../etc/passwd'",
            "'keyring:k'",
            "'env:PATH'",
        ],
        "header_or_input_fn" | "input_or_output_fn" | "output_or_header_fn" => &[
            "NULL",
            "NULL",
            "'fz.to_json'",
            "'fz.fails'",
            "'json:{\"x\": \"{{input}}\"}'",
            "'path:$.a'",
            "'mysql.user'",
        ],
        "name" => &SETTINGS,
        "value" => &["NULL", "'0'", "'1'", "'50'", "'1000'", "'x'"],
        "batch_size" => &["NULL", "1", "2", "0", "-1", "1000000"],
        "incremental_refresh_mode" => &["'manual'", "'transactional'", "NULL", "'never'"],
        "mime_type" => &["'image/png'", "'image/jpeg'", "NULL"],
        _ => &TEXTS,
    };
    pick(rng, list).to_owned()
}

/// A value for `?`.
pub(super) fn parameter(rng: &mut Rng) -> Value {
    match rng.u8(..12) {
        0 => Value::NULL,
        1 => Value::Int(rng.i64(..)),
        2 => Value::UInt(rng.u64(..)),
        3 => Value::Double(rng.f64() * 1e300),
        4 => Value::Float(f32::NAN),
        5 => Value::Date(2024, 2, 29, 23, 59, 59, 999_999),
        6 => Value::Bytes((0..rng.usize(..64)).map(|_| rng.u8(..)).collect()),
        7 => Value::Bytes(vec![b'x'; rng.usize(..200_000)]),
        8 => Value::Bytes(b"\x00\x00\x80\x3f".repeat(8)),
        9 => Value::Bytes(pick(rng, &["ok", "dummy", "echo", "chat"]).as_bytes().to_vec()),
        10 => Value::Bytes(b"{\"input\": [\"x\"]}".to_vec()),
        _ => Value::Bytes("text with ünïcödé".as_bytes().to_vec()),
    }
}
