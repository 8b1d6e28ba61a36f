//! The table of SQL functions. Its constants have the functions' names: [`ml_embedding`].

use Role::{Admin, User};

/// A loadable function, a stored routine, or both.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// The name of the loadable function; without one, that of the stored function.
    pub name: &'static str,
    /// The kind of exported function; `None`: only the routine exists.
    pub exported: Option<Exported>,
    /// The symbol that the stored function calls if it has the loadable function's name. With one name, the stored
    /// function would call itself if the library is missing.
    pub second_name: Option<&'static str>,
    /// Its parameters, in the order of positional calls.
    pub parameters: &'static [Parameter],
    /// The routine for EXECUTE.
    pub routine: Option<Routine>,
    /// Whether an argument holds a key. Errors then quote no argument.
    pub confidential: bool,
    /// Whether a server may have a native function of this name, which is then used.
    pub maybe_native: bool,
    /// Arguments of a call in tests.
    pub sample: &'static str,
}

/// The result of an exported function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// Text or bytes.
    Bytes,
    /// A double.
    Real,
    /// An integer.
    Integer,
    /// Text, of all rows of a group.
    Aggregate,
}

/// A parameter. Named arguments use `name` or one of `aliases`.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, which errors use too.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Its name in the stored routine; `None`: the routine lacks it.
    pub declared: Option<&'static str>,
    /// Its type in the stored routine.
    pub sql_type: &'static str,
    /// Whether positional calls of the loadable function may leave it out.
    pub optional: bool,
    /// Whether the loadable function takes its bytes unconverted, in any character set.
    pub binary: bool,
}

/// A stored routine.
#[derive(Debug, PartialEq, Eq)]
pub struct Routine {
    /// Function or procedure.
    pub kind: Kind,
    /// Its schema.
    pub schema: &'static str,
    /// Its name; empty: that of the loadable function.
    pub name: &'static str,
    /// The type and volatility of a function; empty for procedures.
    pub returns: (&'static str, &'static str),
    /// SQL SECURITY. A caller could not KILL a model call in a DEFINER routine.
    pub security: Security,
    /// Its body.
    pub body: Body,
    /// The role that gets EXECUTE.
    pub execute: Role,
    /// Whether a server may have a routine of its own by this name, which is then left alone.
    pub maybe_native: bool,
    /// Its COMMENT.
    pub comment: &'static str,
    /// The comment above it in the script, one element a line.
    pub note: &'static [&'static str],
}

/// The kind of a stored routine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Called in expressions.
    Function,
    /// Called with CALL.
    Procedure,
}

/// SQL SECURITY of a stored routine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// The caller's privileges.
    Invoker,
    /// Privileges of the account `mysql_ml`, which then needs EXECUTE on the routine itself.
    Definer,
}

/// The body of a stored routine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `RETURN` the call of the loadable function, or `DO` it in a procedure.
    Call,
    /// A statement with the call in place of `{call}`.
    Around(&'static str),
}

/// A role of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Calls models.
    User,
    /// Registers models; includes `ml_user`.
    Admin,
}

impl Function {
    /// Default values for the fields of a row.
    pub const DEFAULT: Function = Function {
        name: "",
        exported: None,
        second_name: None,
        parameters: &[],
        routine: None,
        confidential: false,
        maybe_native: false,
        sample: "",
    };

    /// The number of arguments that a positional call requires.
    pub fn required(&self) -> usize {
        self.parameters.iter().take_while(|p| !p.optional).count()
    }

    /// The name of parameter `p`; empty if there is none.
    pub fn parameter(&self, p: usize) -> &'static str {
        self.parameters.get(p).map_or("", |p| p.name)
    }

    /// The schema and name of the routine, if there is one.
    pub fn routine_name(&self) -> Option<(&'static str, &'static str)> {
        self.routine.as_ref().map(|r| (r.schema, if r.name.is_empty() { self.name } else { r.name }))
    }

    /// Whether the routine is called with CALL.
    pub fn is_procedure(&self) -> bool {
        self.routine.as_ref().is_some_and(|r| r.kind == Kind::Procedure)
    }

    /// The routine's parameters: name and type.
    pub fn declared(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.parameters.iter().filter_map(|p| Some((p.declared?, p.sql_type)))
    }

    /// The exported symbols for `CREATE FUNCTION`.
    pub fn symbols(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.exported.iter().flat_map(|_| [Some(self.name), self.second_name]).flatten()
    }
}

impl Parameter {
    const fn aliases(self, aliases: &'static [&'static str]) -> Parameter {
        Parameter { aliases, ..self }
    }

    const fn declared(self, name: &'static str) -> Parameter {
        Parameter { declared: Some(name), ..self }
    }

    const fn undeclared(self) -> Parameter {
        Parameter { declared: None, ..self }
    }

    const fn optional(self) -> Parameter {
        Parameter { optional: true, ..self }
    }

    const fn binary(self) -> Parameter {
        Parameter { binary: true, ..self }
    }
}

const TEXT: &str = "TEXT CHARACTER SET utf8mb4";
const LONG_TEXT: &str = "LONGTEXT CHARACTER SET utf8mb4";
const BYTES: &str = "LONGBLOB";
const JSON: &str = "JSON";
const VECTOR: &str = "VECTOR(16383)";

/// The binary log requires this of functions in statements that write.
const CALL: &str = "DETERMINISTIC NO SQL";
const READ: &str = "NOT DETERMINISTIC READS SQL DATA";
const STATE: &str = "NOT DETERMINISTIC NO SQL";

const fn parameter(name: &'static str, sql_type: &'static str) -> Parameter {
    Parameter { name, aliases: &[], declared: Some(name), sql_type, optional: false, binary: false }
}

const MODEL_ID: Parameter = parameter("model_id", TEXT);
const SECRET_ID: Parameter = parameter("secret_id", TEXT);
const TABLE_NAME: Parameter = parameter("table_name", TEXT);
const OPTIONS: Parameter = parameter("options", LONG_TEXT);
const CONTENT: Parameter = parameter("content", LONG_TEXT).aliases(&["contents"]);
const COLUMN_NAME: Parameter = parameter("column_name", TEXT);
const CHUNK_TABLE: Parameter = parameter("chunk_table", TEXT);
const INDEX_NAME: Parameter = parameter("index_name", TEXT);
const INDEX_OPTIONS: Parameter = parameter("options", JSON).optional();
/// `name=value, name=value`, as Cloud SQL writes options.
const CLOUD_SQL_OPTIONS: Parameter = parameter("options", TEXT).optional();
const CONTENT_COLUMN: Parameter = parameter("content_column", TEXT);
const EMBEDDING_COLUMN: Parameter = parameter("embedding_column", TEXT);
const BATCH_SIZE: Parameter = parameter("batch_size", "INT").optional();
const A_TEXT_OF_MODELS: [Parameter; 2] =
    [parameter("model_id", "VARCHAR(100) CHARACTER SET utf8mb4"), parameter("input_text", LONG_TEXT)];
const PROMPT: Parameter = parameter("prompt", LONG_TEXT);
const INPUT: Parameter = parameter("input", LONG_TEXT).aliases(&["text", "prompt"]);
const LLM: Parameter = parameter("model_id", TEXT).optional();
const INPUTS: Parameter = parameter("inputs", JSON).aliases(&["prompts", "texts"]);
const SET_OPTIONS: Parameter = parameter("options", JSON).optional();
const ANSWER_OPTIONS: Parameter = parameter("options", JSON).undeclared().optional();
const IMAGES: Parameter = parameter("images", BYTES).aliases(&["image"]).undeclared().binary().optional();
const VECTORS: [Parameter; 2] = [parameter("a", BYTES), parameter("b", BYTES)];
const VECTORS_AND_MEASURE: [Parameter; 3] =
    [parameter("a", BYTES), parameter("b", BYTES), parameter("distance_measure", TEXT)];
const SECRET_PATH: [Parameter; 2] = [SECRET_ID, parameter("secret_path", TEXT)];
const SECRET_VALUE: [Parameter; 2] = [SECRET_ID, parameter("value", BYTES)];

/// Cloud SQL and AlloyDB name and order the last three differently; each call determines the order.
const REGISTRATION: [Parameter; 10] = [
    MODEL_ID,
    parameter("model_request_url", TEXT).optional(),
    parameter("model_provider", TEXT).optional(),
    parameter("model_type", TEXT).optional(),
    parameter("model_qualified_name", TEXT).optional(),
    parameter("model_auth_type", TEXT).optional(),
    parameter("model_auth_id", TEXT).optional(),
    parameter("generate_headers_fn", TEXT).aliases(&["header_gen_fn"]).declared("header_or_input_fn").optional(),
    parameter("model_in_transform_fn", TEXT).aliases(&["input_transform_fn"]).declared("input_or_output_fn").optional(),
    parameter("model_out_transform_fn", TEXT)
        .aliases(&["output_transform_fn"])
        .declared("output_or_header_fn")
        .optional(),
];

/// Collects and asks, then runs the statement in the caller's session.
const QUERY: Body = Body::Around(
    "BEGIN
    DECLARE warnings, code INT DEFAULT 0;
    DECLARE text TEXT CHARACTER SET utf8mb4;
    -- The statement has no warning 1.
    DECLARE CONTINUE HANDLER FOR 1758 BEGIN END;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN DO ai_query_end(); RESIGNAL; END;
    SET @mysql_ml_statement = {call};
    PREPARE mysql_ml_statement FROM @mysql_ml_statement;
    EXECUTE mysql_ml_statement;
    GET DIAGNOSTICS warnings = NUMBER;
    GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, text = MESSAGE_TEXT;
    DEALLOCATE PREPARE mysql_ml_statement;
    SET @mysql_ml_statement = NULL;
    -- The statements since have cleared its warnings.
    DO ai_query_end(warnings, code, text);
  END",
);

/// The row that the build of a vector index returns.
const BUILD: Body = Body::Around(
    "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      left_out BIGINT UNSIGNED PATH '$.left_out',
      lists BIGINT UNSIGNED PATH '$.lists',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r",
);

/// What a run on a chunk table has done, as a row.
const CHUNKS: Body = Body::Around(
    "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      inserted BIGINT UNSIGNED PATH '$.inserted',
      moved BIGINT UNSIGNED PATH '$.moved',
      removed BIGINT UNSIGNED PATH '$.removed',
      failed BIGINT UNSIGNED PATH '$.failed',
      embedded BIGINT UNSIGNED PATH '$.embedded',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r",
);

/// Runs the statements of a search, which see one snapshot, in the caller's session.
macro_rules! around_search {
    ($declared:literal, $after:literal) => {
        Body::Around(concat!(
            "BEGIN
    DECLARE own BOOLEAN DEFAULT FALSE;",
            $declared,
            "
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
      DO ai_search_end();
      IF own THEN ROLLBACK; END IF;
      RESIGNAL;
    END;
    SET own = {call};
    IF own THEN
      SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
      START TRANSACTION;
    END IF;
    SET @mysql_ml_found = NULL, @mysql_ml_search = ai_search_next(NULL);
    WHILE @mysql_ml_search IS NOT NULL DO
      PREPARE mysql_ml_search FROM @mysql_ml_search;
      EXECUTE mysql_ml_search;
      DEALLOCATE PREPARE mysql_ml_search;
      SET @mysql_ml_search = ai_search_next(@mysql_ml_found);
    END WHILE;",
            $after,
            "
  END",
        ))
    };
}

/// A search.
const SEARCH: Body = around_search!(
    "",
    "
    SET @mysql_ml_found = NULL;
    IF own THEN COMMIT; END IF;"
);

/// A search for sources, and a question about them, after the transaction.
const ANSWER: Body = around_search!(
    "
    DECLARE found LONGTEXT CHARACTER SET utf8mb4;",
    "
    SET found = @mysql_ml_found, @mysql_ml_found = NULL;
    IF own THEN COMMIT; SET own = FALSE; END IF;
    SET found = ai_answer(question, found, JSON_REMOVE(options, '$.column', '$.k', '$.source_column', '$.search'));
    SELECT r.* FROM JSON_TABLE(
      CAST(found AS JSON),
      '$' COLUMNS (
        answered BOOLEAN PATH '$.answered',
        answer LONGTEXT CHARACTER SET utf8mb4 PATH '$.answer',
        citations JSON PATH '$.citations',
        sources JSON PATH '$.sources',
        reason TEXT CHARACTER SET utf8mb4 PATH '$.reason',
        model TEXT CHARACTER SET utf8mb4 PATH '$.model')) AS r;"
);

/// The candidates of a vector index, in the caller's snapshot.
const CANDIDATES: Body = Body::Around(
    "BEGIN
    DECLARE plan, found LONGTEXT CHARACTER SET utf8mb4;
    SET plan = {call};
    SET found = mysql_ml.vector_candidates(
      JSON_VALUE(plan, '$.index' RETURNING UNSIGNED), query, JSON_VALUE(plan, '$.lists' RETURNING UNSIGNED), k,
      JSON_VALUE(plan, '$.most' RETURNING UNSIGNED), JSON_VALUE(plan, '$.most' RETURNING UNSIGNED));
    RETURN ai_vector_candidate_keys(table_name, column_name, options, found);
  END",
);

/// The row that a job of questions about a table returns.
const GENERATE_TABLE: Body = Body::Around(
    "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      answered BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      `rows` BIGINT UNSIGNED PATH '$.rows',
      distinct_inputs BIGINT UNSIGNED PATH '$.distinct_inputs',
      requests BIGINT UNSIGNED PATH '$.requests',
      tokens BIGINT UNSIGNED PATH '$.tokens',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r",
);

/// The row that a job on a table returns.
const JOB: Body = Body::Around(
    "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      embedded BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r",
);

const fn routine(kind: Kind, returns: (&'static str, &'static str), execute: Role, comment: &'static str) -> Routine {
    Routine {
        kind,
        schema: "mysql",
        name: "",
        returns,
        security: Security::Invoker,
        body: Body::Call,
        execute,
        maybe_native: false,
        comment,
        note: &[],
    }
}

/// A stored function: type, volatility, role with EXECUTE, comment.
const fn function(returns: &'static str, volatility: &'static str, execute: Role, comment: &'static str) -> Routine {
    routine(Kind::Function, (returns, volatility), execute, comment)
}

/// A stored function of schema `ai` that calls a model: its name, its type, its comment.
const fn ai(name: &'static str, returns: &'static str, comment: &'static str) -> Routine {
    function(returns, CALL, User, comment).called("ai", name)
}

/// A stored procedure: who may execute it, its comment.
const fn procedure(execute: Role, comment: &'static str) -> Routine {
    routine(Kind::Procedure, ("", ""), execute, comment)
}

impl Routine {
    const fn definer(self) -> Routine {
        Routine { security: Security::Definer, ..self }
    }

    const fn body(self, body: Body) -> Routine {
        Routine { body, ..self }
    }

    const fn around(self, statement: &'static str) -> Routine {
        Routine { body: Body::Around(statement), ..self }
    }

    const fn note(self, note: &'static [&'static str]) -> Routine {
        Routine { note, ..self }
    }

    const fn called(self, schema: &'static str, name: &'static str) -> Routine {
        Routine { schema, name, ..self }
    }

    const fn maybe_native(self) -> Routine {
        Routine { maybe_native: true, ..self }
    }
}

/// The exported functions, one row each: `$then!` is called with all of them.
///
/// A row has the kind of the result, the function's name, the second name that its stored function calls, the Rust
/// type, and the fields of its [`Function`]. Only `src/sql/exports.rs` reads the Rust type.
#[macro_export]
macro_rules! exported_functions {
    ($then:ident) => {
        $then! {
            bytes ml_version as "mysql_ml_so_ml_version" = version::Version {
                routine: Some(
                    function("VARCHAR(32) CHARACTER SET utf8mb4", CALL, User, "version of the library").definer(),
                ),
            }
            bytes ml_embedding as "mysql_ml_so_ml_embedding" = ModelFunction<embedding::Embedding> {
                parameters: &[MODEL_ID, CONTENT],
                routine: Some(function(VECTOR, CALL, User, "the embedding of a text as a VECTOR")),
                sample: "'d', 'x'",
            }
            bytes ml_query_embedding as "mysql_ml_so_ml_query_embedding" = ModelFunction<embedding::QueryEmbedding> {
                parameters: &[MODEL_ID, CONTENT],
                routine: Some(
                    function(VECTOR, CALL, User, "the embedding of a text that is searched for, as a VECTOR"),
                ),
                sample: "'d', 'x'",
            }
            bytes ml_embedding_batch as "mysql_ml_so_ml_embedding_batch" = ModelFunction<batch::EmbeddingBatch> {
                parameters: &[MODEL_ID, parameter("contents", JSON).aliases(&["content"])],
                routine: Some(
                    function(JSON, CALL, User, "the embeddings of an array of texts, as an array of base64 strings"),
                ),
                sample: "'d', '[]'",
            }
            aggregate ml_embedding_agg = embedding_agg::EmbeddingAgg {
                parameters: &[MODEL_ID, parameter("key", TEXT), CONTENT],
                sample: "'d', 'k', 't'",
            }
            bytes ml_image_embedding as "mysql_ml_so_ml_image_embedding" = image_embedding::ImageEmbedding {
                parameters: &[
                    MODEL_ID,
                    parameter("image", BYTES).binary(),
                    parameter("mime_type", TEXT).aliases(&["mimetype"]).optional(),
                ],
                routine: Some(function(VECTOR, CALL, User, "the embedding of an image as a VECTOR")),
                sample: "'d', x'ffd8ff'",
            }
            bytes ml_generate as "mysql_ml_so_ml_generate" = generate::Generate {
                parameters: &[MODEL_ID, parameter("prompt", LONG_TEXT), parameter("options", JSON).optional()],
                routine: Some(function(LONG_TEXT, CALL, User, "the answer of a model to a prompt")),
                sample: "'d', 'x'",
            }
            bytes ml_predict_row as "mysql_ml_so_ml_predict_row" = ModelFunction<predict::PredictRow> {
                parameters: &[MODEL_ID, parameter("request_body", JSON)],
                routine: Some(function(JSON, CALL, User, "the answer of a model to a JSON request")),
                sample: "'d', '{}'",
            }
            bytes ai_generate = AiFunction<ai::Generate> {
                parameters: &[PROMPT, LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("generate", LONG_TEXT, "the answer of a language model to a prompt").note(&[
                    "AI functions, with AlloyDB's names. A NULL model is that of the setting default_llm.",
                ])),
                sample: "'x', 'd'",
            }
            integer ai_if = AiFunction<ai::If> {
                parameters: &[PROMPT, LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("if", "BOOLEAN", "whether a question or statement is true; NULL: it cannot be told")),
                sample: "'x', 'd'",
            }
            real ai_rank = AiFunction<ai::Rank> {
                parameters: &[PROMPT, LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("rank", "DOUBLE", "a score from 0 to 1 by the criterion in the prompt")),
                sample: "'x', 'd'",
            }
            bytes ai_classify = AiFunction<ai::Classify> {
                parameters: &[INPUT, parameter("labels", JSON), LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("classify", TEXT, "the label that fits a text best")),
                sample: "'x', '[\"a\"]', 'd'",
            }
            bytes ai_extract = AiFunction<ai::Extract> {
                parameters: &[INPUT, parameter("fields", JSON), LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("extract", JSON, "the fields of a text as a JSON object")),
                sample: "'x', '[\"a\"]', 'd'",
            }
            bytes ai_summarize = AiFunction<ai::Summarize> {
                parameters: &[INPUT, LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("summarize", LONG_TEXT, "a summary of a text")),
                sample: "'x', 'd'",
            }
            bytes ai_analyze_sentiment = AiFunction<ai::AnalyzeSentiment> {
                parameters: &[INPUT, LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai(
                    "analyze_sentiment",
                    "VARCHAR(8) CHARACTER SET utf8mb4",
                    "positive, negative, neutral or mixed",
                )),
                sample: "'x', 'd'",
            }
            bytes ai_translate = AiFunction<ai::Translate> {
                parameters: &[INPUT, parameter("language", TEXT), LLM, ANSWER_OPTIONS, IMAGES],
                routine: Some(ai("translate", LONG_TEXT, "a text in another language")),
                sample: "'x', 'German', 'd'",
            }
            bytes ai_generate_batch = AiBatch<ai::Generate> {
                parameters: &[INPUTS, LLM, SET_OPTIONS],
                routine: Some(ai("generate_batch", JSON, "ai.generate for an array of prompts, as an array")),
                sample: "'[]', 'd'",
            }
            bytes ai_if_batch = AiBatch<ai::If> {
                parameters: &[INPUTS, LLM, SET_OPTIONS],
                routine: Some(ai("if_batch", JSON, "ai.if for an array of prompts, as an array")),
                sample: "'[]', 'd'",
            }
            bytes ai_rank_batch = AiBatch<ai::Rank> {
                parameters: &[INPUTS, LLM, SET_OPTIONS],
                routine: Some(ai("rank_batch", JSON, "ai.rank for an array of prompts, as an array")),
                sample: "'[]', 'd'",
            }
            bytes ai_classify_batch = AiBatch<ai::Classify> {
                parameters: &[INPUTS, parameter("labels", JSON), LLM, SET_OPTIONS],
                routine: Some(ai("classify_batch", JSON, "ai.classify for an array of texts, as an array")),
                sample: "'[]', '[\"a\"]', 'd'",
            }
            bytes ai_extract_batch = AiBatch<ai::Extract> {
                parameters: &[INPUTS, parameter("fields", JSON), LLM, SET_OPTIONS],
                routine: Some(ai("extract_batch", JSON, "ai.extract for an array of texts, as an array")),
                sample: "'[]', '[\"a\"]', 'd'",
            }
            bytes ai_summarize_batch = AiBatch<ai::Summarize> {
                parameters: &[INPUTS, LLM, SET_OPTIONS],
                routine: Some(ai("summarize_batch", JSON, "ai.summarize for an array of texts, as an array")),
                sample: "'[]', 'd'",
            }
            bytes ai_analyze_sentiment_batch = AiBatch<ai::AnalyzeSentiment> {
                parameters: &[INPUTS, LLM, SET_OPTIONS],
                routine: Some(ai("analyze_sentiment_batch", JSON, "ai.analyze_sentiment for an array of texts, as an array")),
                sample: "'[]', 'd'",
            }
            bytes ai_translate_batch = AiBatch<ai::Translate> {
                parameters: &[INPUTS, parameter("language", TEXT), LLM, SET_OPTIONS],
                routine: Some(ai("translate_batch", JSON, "ai.translate for an array of texts, as an array")),
                sample: "'[]', 'German', 'd'",
            }
            aggregate ai_agg = AiAggregateFunction<aggregate::Agg> {
                parameters: &[INPUT, parameter("instruction", LONG_TEXT), LLM, ANSWER_OPTIONS],
                sample: "'x', 'count', 'd'",
            }
            aggregate ai_agg_summarize = AiAggregateFunction<aggregate::AggSummarize> {
                parameters: &[INPUT, LLM, ANSWER_OPTIONS],
                sample: "'x', 'd'",
            }
            bytes ai_generate_table = CommandFunction<generate_table::GenerateTable> {
                parameters: &[
                    MODEL_ID,
                    TABLE_NAME,
                    parameter("prompt", TEXT),
                    parameter("output_column", TEXT),
                    OPTIONS.optional(),
                ],
                routine: Some(
                    procedure(User, "asks a language model about the rows of a table, and writes the answers")
                        .called("ai", "generate_table")
                        .body(GENERATE_TABLE),
                ),
                sample: "'d', 's.t', 'c', 'o'",
            }
            bytes ai_query = CommandFunction<query::Query> {
                parameters: &[parameter("statement", LONG_TEXT), parameter("options", JSON).optional()],
                routine: Some(
                    procedure(User, "runs a SELECT whose calls of models are made together").called("ai", "query").body(QUERY),
                ),
                sample: "'SELECT 1'",
            }
            bytes ai_query_end = CommandFunction<query::QueryEnd> {
                parameters: &[
                    parameter("warnings", "INT").optional(),
                    parameter("code", "INT").optional(),
                    parameter("text", TEXT).optional(),
                ],
            }
            bytes ai_embedding = ModelFunction<similarity::AiEmbedding> {
                parameters: &[MODEL_ID, CONTENT],
                routine: Some(ai("embedding", VECTOR, "the embedding of a text as a VECTOR").note(&[
                    "A NULL model is that of the setting default_embedding_model.",
                ])),
                sample: "'d', 'x'",
            }
            bytes ai_rerank = rerank::Rerank {
                parameters: &[
                    MODEL_ID,
                    parameter("query", LONG_TEXT).aliases(&["search_string"]),
                    parameter("documents", JSON),
                    parameter("top_n", "INT").optional(),
                ],
                routine: Some(ai("rerank", JSON, "documents ranked for a query, best first: index, score, document").note(&[
                    "A NULL model is that of the setting default_reranker.",
                ])),
                sample: "'d', 'x', '[]'",
            }
            real ai_similarity = similarity::Similarity {
                parameters: &[parameter("a", LONG_TEXT), parameter("b", LONG_TEXT), LLM],
                routine: Some(ai("similarity", "DOUBLE", "the cosine similarity of the embeddings of two texts")),
                sample: "'x', 'y', 'd'",
            }
            bytes ai_count_tokens = ModelFunction<count_tokens::CountTokens> {
                parameters: &[MODEL_ID, parameter("text", LONG_TEXT).aliases(&["content"])],
                routine: Some(ai("count_tokens", JSON, "the tokens of a text, and whether the number is exact")),
                sample: "'d', 'x'",
            }
            bytes ai_chunk = chunk::Chunk {
                parameters: &[parameter("text", LONG_TEXT).aliases(&["content"]), parameter("options", JSON).optional()],
                routine: Some(ai("chunk", JSON, "a text as an array of chunks: chunk, start, length")),
                sample: "'x', NULL",
            }
            bytes ai_explain_request = CommandFunction<explain::ExplainRequest> {
                parameters: &[parameter("function_name", TEXT).aliases(&["function"]), parameter("arguments", JSON)],
                routine: Some(ai("explain_request", JSON, "the request that a function would send; nothing is sent")),
                sample: "'ai.if', '{\"prompt\": \"x\", \"model_id\": \"d\"}'",
            }
            bytes ml_list_registered_model as "mysql_ml_so_ml_list_registered_model" =
                CommandFunction<registration::ListModel> {
                parameters: &[MODEL_ID],
                routine: Some(function(JSON, READ, User, "a registration as JSON").definer()),
                sample: "'d'",
            }
            bytes ml_list_settings as "mysql_ml_so_ml_list_settings" = CommandFunction<registration::ListSettings> {
                routine: Some(function(JSON, READ, Admin, "all settings as JSON").definer()),
            }
            bytes ml_embed_table = CommandFunction<embed_table::EmbedTable> {
                parameters: &[
                    MODEL_ID,
                    parameter("table", TEXT).aliases(&["table_name"]).declared("table_name"),
                    CONTENT_COLUMN,
                    EMBEDDING_COLUMN,
                    parameter("options", JSON).optional(),
                ],
                routine: Some(
                    procedure(User, "embeds the rows of a table that lack a vector")
                        .body(JOB)
                        .note(&["Embeds a table, with the caller's rights on it."]),
                ),
                sample: "'d', 's.t', 'c', 'v'",
            }
            bytes ml_initialize_embeddings = CommandFunction<auto_embed::InitializeEmbeddings> {
                parameters: &[
                    MODEL_ID,
                    TABLE_NAME,
                    CONTENT_COLUMN,
                    EMBEDDING_COLUMN,
                    BATCH_SIZE,
                    parameter("incremental_refresh_mode", TEXT).optional(),
                ],
                routine: Some(
                    procedure(User, "embeds a column and keeps it so").called("ai", "initialize_embeddings").body(JOB),
                ),
                sample: "'d', 's.t', 'c', 'v'",
            }
            bytes ml_refresh_embeddings = CommandFunction<auto_embed::RefreshEmbeddings> {
                parameters: &[
                    TABLE_NAME,
                    EMBEDDING_COLUMN.optional(),
                    BATCH_SIZE,
                    parameter("caller", TEXT).undeclared().optional(),
                ],
                routine: Some(
                    procedure(
                        User,
                        "embeds what lacks a vector; NULL: of all columns, of all tables that the caller initialized",
                    )
                    .called("ai", "refresh_embeddings")
                    .body(JOB),
                ),
                sample: "'s.t'",
            }
            bytes ml_drop_embedding_config = CommandFunction<auto_embed::DropEmbeddingConfig> {
                parameters: &[TABLE_NAME, EMBEDDING_COLUMN.optional()],
                routine: Some(
                    procedure(User, "forgets a column; its vectors stay").called("ai", "drop_embedding_config"),
                ),
                sample: "'s.t'",
            }
            bytes ml_embedding_progress = CommandFunction<auto_embed::EmbeddingProgress> {}
            bytes ai_create_vector_index = CommandFunction<vector_index::Create> {
                parameters: &[TABLE_NAME, COLUMN_NAME, INDEX_OPTIONS],
                routine: Some(
                    procedure(User, "creates a vector index on a column")
                        .called("ai", "create_vector_index")
                        .body(BUILD)
                        .note(&["Vector indexes. The caller needs the rights on the table; the index works as its account."]),
                ),
                sample: "'s.t', 'v'",
            }
            bytes ai_rebuild_vector_index = CommandFunction<vector_index::Rebuild> {
                parameters: &[TABLE_NAME, COLUMN_NAME, INDEX_OPTIONS],
                routine: Some(
                    procedure(User, "builds a vector index again while the old version serves")
                        .called("ai", "rebuild_vector_index")
                        .body(BUILD),
                ),
                sample: "'s.t', 'v'",
            }
            bytes ai_refresh_vector_index = CommandFunction<vector_index::Refresh> {
                parameters: &[
                    TABLE_NAME,
                    COLUMN_NAME,
                    INDEX_OPTIONS,
                    parameter("caller", TEXT).undeclared().optional(),
                ],
                routine: Some(
                    procedure(User, "moves changed rows into a vector index")
                        .called("ai", "refresh_vector_index")
                        .around(
                            "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      merged_lists BIGINT UNSIGNED PATH '$.lists',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r",
                        ),
                ),
                sample: "'s.t', 'v'",
            }
            bytes ai_drop_vector_index = CommandFunction<vector_index::Drop> {
                parameters: &[TABLE_NAME, COLUMN_NAME, INDEX_OPTIONS],
                routine: Some(
                    procedure(User, "removes a vector index").called("ai", "drop_vector_index"),
                ),
                sample: "'s.t', 'v'",
            }
            bytes ai_check_vector_index = CommandFunction<vector_index::Check> {
                parameters: &[TABLE_NAME, COLUMN_NAME, INDEX_OPTIONS],
                routine: Some(
                    procedure(User, "compares a vector index with its table and measures its recall")
                        .called("ai", "check_vector_index")
                        .around(
                            "SELECT r.* FROM JSON_TABLE(
    CAST({call} AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      missing BIGINT UNSIGNED PATH '$.missing',
      dead BIGINT UNSIGNED PATH '$.dead',
      queries BIGINT UNSIGNED PATH '$.queries',
      recall DOUBLE PATH '$.recall',
      seconds DOUBLE PATH '$.seconds')) AS r",
                        ),
                ),
                sample: "'s.t', 'v'",
            }
            bytes ai_create_chunks = CommandFunction<chunks::Create> {
                parameters: &[
                    parameter("source_table", TEXT),
                    parameter("text_column", TEXT),
                    CHUNK_TABLE,
                    parameter("options", JSON).optional(),
                ],
                routine: Some(
                    procedure(User, "creates a table of the chunks of the texts in a column, and keeps it so")
                        .called("ai", "create_chunks")
                        .body(CHUNKS)
                        .note(&["Chunk tables. The caller needs the rights on both tables; the work is done as its account."]),
                ),
                sample: "'s.t', 'c', 's.chunks'",
            }
            bytes ai_refresh_chunks = CommandFunction<chunks::Refresh> {
                parameters: &[
                    CHUNK_TABLE,
                    parameter("options", JSON).optional(),
                    parameter("caller", TEXT).undeclared().optional(),
                ],
                routine: Some(
                    procedure(User, "cuts changed rows into chunks").called("ai", "refresh_chunks").body(CHUNKS),
                ),
                sample: "'s.chunks'",
            }
            bytes ai_drop_chunks = CommandFunction<chunks::Drop> {
                parameters: &[CHUNK_TABLE, parameter("options", JSON).optional()],
                routine: Some(
                    procedure(User, "a chunk table follows its source no more; its rows stay")
                        .called("ai", "drop_chunks"),
                ),
                sample: "'s.chunks'",
            }
            bytes ai_chunk_tables = CommandFunction<chunks::ChunkTables> {}
            bytes ai_vector_indexes = CommandFunction<vector_index::VectorIndexes> {
                routine: Some(
                    function(JSON, READ, User, "the vector indexes of tables that the caller can see, as an array")
                        .called("mysql", "ml_list_vector_indexes")
                        .note(&["The view mysql.vector_indexes calls it: in schema mysql a view of a loadable function cannot be restored."]),
                ),
            }
            bytes ml_create_vector_index = CommandFunction<vector_index::CreateNamed> {
                parameters: &[INDEX_NAME, TABLE_NAME, COLUMN_NAME, CLOUD_SQL_OPTIONS],
                routine: Some(
                    procedure(User, "creates a vector index with a name, as Cloud SQL does")
                        .called("mysql", "create_vector_index")
                        .maybe_native()
                        .body(BUILD)
                        .note(&["Vector indexes by Cloud SQL's names. install-ai.sql makes their tables."]),
                ),
                sample: "'i', 's.t', 'v'",
            }
            bytes ml_alter_vector_index = CommandFunction<vector_index::AlterNamed> {
                parameters: &[INDEX_NAME, CLOUD_SQL_OPTIONS],
                routine: Some(
                    procedure(User, "builds a vector index with a name again, with other options")
                        .called("mysql", "alter_vector_index")
                        .maybe_native()
                        .body(BUILD),
                ),
                sample: "'s.i'",
            }
            bytes ml_drop_vector_index = CommandFunction<vector_index::DropNamed> {
                parameters: &[INDEX_NAME],
                routine: Some(
                    procedure(User, "removes a vector index by its name")
                        .called("mysql", "drop_vector_index")
                        .maybe_native(),
                ),
                sample: "'s.i'",
            }
            bytes ml_vector_choose = vector_index::Choose {
                parameters: &[
                    parameter("index_id", TEXT),
                    parameter("version", TEXT),
                    parameter("lists", TEXT),
                    parameter("built_at", TEXT),
                    parameter("layout", BYTES),
                    parameter("query", BYTES),
                    parameter("wanted", TEXT),
                ],
                sample: "1, 1, 1, '', x'', x'00000000', 1",
            }
            aggregate ml_vector_lists = vector_index::Lists {
                parameters: &[
                    parameter("index_id", TEXT),
                    parameter("layout", BYTES),
                    parameter("query", BYTES),
                    parameter("lists", TEXT),
                    parameter("list", TEXT),
                    parameter("centroid", BYTES),
                ],
                sample: "1, x'', x'00000000', 1, 1, x''",
            }
            aggregate ml_vector_scan = vector_index::BlockScan {
                parameters: &[
                    parameter("layout", BYTES),
                    parameter("query", BYTES),
                    parameter("rows", TEXT),
                    parameter("least", TEXT),
                    parameter("most", TEXT),
                    parameter("centroid", BYTES),
                    parameter("codes", BYTES),
                ],
                sample: "x'', x'00000000', 1, 1, 1, x'', x''",
            }
            integer ai_search_begin = search::Begin {
                parameters: &[
                    TABLE_NAME,
                    COLUMN_NAME,
                    parameter("query", BYTES).binary(),
                    parameter("k", "INT").optional(),
                    INDEX_OPTIONS,
                ],
                routine: Some(
                    procedure(User, "the rows of a table whose vectors are nearest to a vector or a text")
                        .called("ai", "search")
                        .body(SEARCH),
                ),
                sample: "'s.t', 'v', x'00000000'",
            }
            integer ai_answer_begin = search::AnswerBegin {
                parameters: &[parameter("question", LONG_TEXT), TABLE_NAME, INDEX_OPTIONS],
                routine: Some(
                    procedure(User, "answers a question from the rows of a table, with citations").called("ai", "answer").body(ANSWER),
                ),
                sample: "'x', 's.t', '{\"column\": \"v\"}'",
            }
            bytes ai_answer = CommandFunction<search::Answer> {
                parameters: &[
                    parameter("question", LONG_TEXT),
                    parameter("sources", JSON),
                    parameter("options", JSON).optional(),
                ],
                sample: "'x', '[\"y\"]'",
            }
            bytes ai_search_next = CommandFunction<search::Next> {
                parameters: &[parameter("found", LONG_TEXT)],
                sample: "NULL",
            }
            bytes ai_search_end = CommandFunction<search::End> {}
            bytes ml_vector_search_status = CommandFunction<search::Status> {}
            bytes ai_vector_candidates = CommandFunction<search::Candidates> {
                parameters: &[
                    TABLE_NAME,
                    COLUMN_NAME,
                    parameter("query", BYTES).binary(),
                    parameter("k", "INT"),
                    INDEX_OPTIONS,
                ],
                routine: Some(
                    function(JSON, READ, User, "the keys of rows that are probably nearest to a vector, as an array")
                        .called("ai", "vector_candidates")
                        .body(CANDIDATES),
                ),
                sample: "'s.t', 'v', x'00000000', 10",
            }
            bytes ai_vector_candidate_keys = CommandFunction<search::CandidateKeys> {
                parameters: &[TABLE_NAME, COLUMN_NAME, parameter("options", JSON), parameter("found", LONG_TEXT)],
                sample: "'s.t', 'v', NULL, '{}'",
            }
            bytes ml_model_qualified_name_of as "mysql_ml_so_ml_model_qualified_name_of" =
                CommandFunction<inspect::QualifiedNameOf> {
                parameters: &[MODEL_ID],
                routine: Some(
                    function(
                        "VARCHAR(255) CHARACTER SET utf8mb4",
                        READ,
                        User,
                        "the name the provider knows a model by",
                    )
                    .note(&["Information about models: as the caller too, whose rights the library asks for."]),
                ),
                sample: "'d'",
            }
            bytes ml_generate_model_request_url as "mysql_ml_so_ml_generate_model_request_url" =
                CommandFunction<inspect::GenerateRequestUrl> {
                parameters: &[
                    parameter("model_provider", TEXT).aliases(&["provider"]),
                    parameter("model_type", TEXT),
                    parameter("model_qualified_name", TEXT),
                    parameter("model_region", TEXT).aliases(&["region"]).optional(),
                ],
                routine: Some(function(TEXT, READ, Admin, "the URL of a model that is registered without one")),
                sample: "'open_ai', NULL, 'x'",
            }
            bytes ml_validate_model as "mysql_ml_so_ml_validate_model" = CommandFunction<inspect::ValidateModel> {
                parameters: &[MODEL_ID],
                routine: Some(function(JSON, STATE, Admin, "sends one small request and returns its outcome")),
                sample: "'d'",
            }
            bytes ml_status as "mysql_ml_so_ml_status" = CommandFunction<inspect::Status> {
                routine: Some(function(JSON, STATE, Admin, "counters of each model")),
            }
            bytes ml_reset_status = CommandFunction<inspect::ResetStatus> {
                routine: Some(procedure(Admin, "counts from zero")),
            }
            bytes ml_cache_clear = CommandFunction<inspect::CacheClear> {
                parameters: &[MODEL_ID],
                routine: Some(
                    procedure(Admin, "removes the embeddings of a model from the caches; NULL: of all")
                        .around("SELECT CAST({call} AS UNSIGNED) AS removed"),
                ),
                sample: "'d'",
            }
            bytes ml_load_model = CommandFunction<local_models::LoadModel> {
                parameters: &[MODEL_ID],
                routine: Some(
                    procedure(Admin, "loads a model inside the server").around("SELECT CAST({call} AS JSON) AS loaded"),
                ),
                sample: "'d'",
            }
            bytes ml_unload_model = CommandFunction<local_models::UnloadModel> {
                parameters: &[MODEL_ID],
                routine: Some(
                    procedure(Admin, "takes a model inside the server out of memory")
                        .around("SELECT CAST({call} AS UNSIGNED) AS unloaded"),
                ),
                sample: "'d'",
            }
            bytes ml_fetch_model = CommandFunction<local_models::FetchModel> {
                parameters: &[MODEL_ID],
                routine: Some(
                    procedure(Admin, "fetches the files of a model inside the server")
                        .around("SELECT CAST({call} AS JSON) AS fetched"),
                ),
                sample: "'d'",
            }
            bytes ml_audit_secrets as "mysql_ml_so_ml_audit_secrets" = CommandFunction<inspect::AuditSecrets> {
                routine: Some(function(JSON, READ, Admin, "places in registrations that appear to hold a key")),
            }
            bytes ml_list_model_providers = CommandFunction<inspect::ListProviders> {}
            bytes ml_create_model_registration = CommandFunction<registration::CreateModel> {
                parameters: &REGISTRATION,
                routine: Some(procedure(Admin, "registers a model").note(&[
                    "Registration runs as the caller, so that the library knows whose functions a model may use. The library",
                    "asks the server whether the caller may execute the procedure, also when the loadable function is called.",
                ])),
                sample: "'n', NULL, 'dummy'",
            }
            bytes ml_alter_model_registration = CommandFunction<registration::AlterModel> {
                parameters: &REGISTRATION,
                routine: Some(procedure(Admin, "changes a model; NULL keeps, an empty text clears")),
                sample: "'n', NULL, 'dummy'",
            }
            bytes ml_drop_model_registration = CommandFunction<registration::DropModel> {
                parameters: &[MODEL_ID],
                routine: Some(procedure(Admin, "deletes a model registration")),
                sample: "'n'",
            }
            bytes ml_set_model_options = CommandFunction<registration::SetModelOptions> {
                parameters: &[MODEL_ID, OPTIONS],
                routine: Some(procedure(Admin, "patches the options of a model")),
                sample: "'d', '{}'",
            }
            bytes ml_create_sm_secret_registration = CommandFunction<registration::CreateSecret> {
                parameters: &SECRET_PATH,
                routine: Some(procedure(Admin, "registers where a secret is found")),
                sample: "'s', 'env:OPENAI_API_KEY'",
            }
            bytes ml_alter_sm_secret_registration = CommandFunction<registration::AlterSecret> {
                parameters: &SECRET_PATH,
                routine: Some(procedure(Admin, "changes where a secret is found")),
                sample: "'s', 'env:OPENAI_API_KEY'",
            }
            bytes ml_drop_sm_secret_registration = CommandFunction<registration::DropSecret> {
                parameters: &[SECRET_ID],
                routine: Some(procedure(Admin, "deletes a secret registration")),
                sample: "'s'",
            }
            bytes ml_create_secret = CommandFunction<registration::CreateKeyringSecret> {
                parameters: &SECRET_VALUE,
                routine: Some(
                    procedure(Admin, "stores a key in the keyring and registers it")
                        .around("SET secret_id = {call}")
                        .note(&[
                            "SET of a parameter and not DO, which would be a statement of its own, one more that could be recorded",
                            "with the key in it. The parameter is binary: the server's error for invalid UTF-8 quotes the text.",
                        ]),
                ),
                confidential: true,
                sample: "'s', 'key'",
            }
            bytes ml_alter_secret = CommandFunction<registration::AlterKeyringSecret> {
                parameters: &SECRET_VALUE,
                routine: Some(procedure(Admin, "replaces a key in the keyring").around("SET secret_id = {call}")),
                confidential: true,
                sample: "'s', 'key'",
            }
            bytes ml_set_secret_options = CommandFunction<registration::SetSecretOptions> {
                parameters: &[SECRET_ID, OPTIONS],
                routine: Some(procedure(Admin, "patches the options of a secret")),
                sample: "'s', '{}'",
            }
            bytes ml_set_setting = CommandFunction<registration::SetSetting> {
                parameters: &[parameter("name", TEXT), parameter("value", TEXT)],
                routine: Some(procedure(Admin, "sets a setting; NULL restores the default")),
                sample: "'timeout_ms', NULL",
            }
            real cosine_distance = distances::CosineDistance {
                parameters: &VECTORS,
                sample: "x'00000000', x'00000000'",
            }
            real l2_squared_distance = distances::L2SquaredDistance {
                parameters: &VECTORS,
                sample: "x'00000000', x'00000000'",
            }
            real dot_product = distances::DotProduct {
                parameters: &VECTORS,
                sample: "x'00000000', x'00000000'",
            }
            real vector_distance = distances::VectorDistance {
                parameters: &VECTORS_AND_MEASURE,
                maybe_native: true,
                sample: "x'00000000', x'00000000'",
            }
            real distance = distances::Distance {
                parameters: &VECTORS_AND_MEASURE,
                maybe_native: true,
                sample: "x'00000000', x'00000000', 'COSINE'",
            }
            real approx_distance = distances::ApproxDistance {
                parameters: &VECTORS_AND_MEASURE,
                maybe_native: true,
                sample: "x'00000000', x'00000000', 'distance_measure=cosine'",
            }
            bytes mysql_ml_so_create_function = CommandFunction<install::CreateFunction> {
                parameters: &[parameter("name", TEXT)],
                sample: "'distance'",
            }
            bytes mysql_ml_so_drop_procedure = CommandFunction<install::DropProcedure> {
                parameters: &[parameter("name", TEXT)],
                sample: "'create_vector_index'",
            }
        }
    };
}

macro_rules! constants {
    ($($kind:ident $name:ident $(as $second:literal)? = $type:ty { $($fields:tt)* })+) => {
        $(
            #[doc = concat!("`", stringify!($name), "`")]
            #[allow(non_upper_case_globals)]
            pub const $name: &Function = {
                #[allow(clippy::needless_update)]
                &Function {
                    $($fields)*
                    name: stringify!($name),
                    exported: Some(constants!(@ $kind)),
                    $(second_name: Some($second),)?
                    ..Function::DEFAULT
                }
            };
        )+
        const EXPORTED: &[&Function] = &[$($name),+];
    };
    (@ bytes) => { Exported::Bytes };
    (@ real) => { Exported::Real };
    (@ integer) => { Exported::Integer };
    (@ aggregate) => { Exported::Aggregate };
}

exported_functions!(constants);

/// Stored functions without a loadable one: the built-in transforms of Cloud SQL and the header function of AlloyDB.
const STORED: [&Function; 3] = [
    &Function {
        name: "cloudsql_ml_text_embedding_input_transform",
        parameters: &A_TEXT_OF_MODELS,
        routine: Some(
            function(JSON, CALL, User, "the request of a Vertex AI text embedding")
                .around("RETURN JSON_OBJECT('instances', JSON_ARRAY(JSON_OBJECT('content', input_text)))")
                .note(&[
                    "The built-in transforms of Cloud SQL and the header function of AlloyDB. A registration that names them",
                    "does not call them: the library speaks those APIs itself. They are here to be read, called and copied.",
                ]),
        ),
        ..Function::DEFAULT
    },
    &Function {
        name: "cloudsql_ml_text_embedding_output_transform",
        parameters: &[parameter("model_id", "VARCHAR(100) CHARACTER SET utf8mb4"), parameter("response_json", JSON)],
        routine: Some(
            function("BLOB", CALL, User, "the vector in the answer of a Vertex AI text embedding").around(
                "RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$.predictions[0].embeddings.values') AS CHAR))",
            ),
        ),
        ..Function::DEFAULT
    },
    &Function {
        name: "ml_anthropic_claude_header_gen_fn",
        parameters: &A_TEXT_OF_MODELS,
        routine: Some(
            function(JSON, CALL, User, "the headers of the Anthropic API besides the key, which the library adds")
                .around("RETURN JSON_OBJECT('anthropic-version', '2023-06-01')"),
        ),
        ..Function::DEFAULT
    },
];

/// The exported functions, in the order of the scripts.
pub fn exported() -> impl Iterator<Item = &'static Function> {
    EXPORTED.iter().copied()
}

/// All functions and routines, in the order of the scripts.
pub fn all() -> impl Iterator<Item = &'static Function> {
    exported().chain(STORED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_function_calls_the_second_name_of_the_loadable_one() {
        for f in exported() {
            let wrapped = f.routine.as_ref().is_some_and(|r| r.kind == Kind::Function && r.name.is_empty());
            let second = wrapped.then(|| format!("mysql_ml_so_{}", f.name));
            assert_eq!(f.second_name.map(str::to_owned), second, "{}", f.name);
        }
    }

    #[test]
    fn routines_that_call_a_model_run_as_their_caller_who_can_kill_them() {
        let definers = all().filter(|f| f.routine.as_ref().is_some_and(|r| r.security == Security::Definer));
        let names: Vec<&str> = definers.map(|f| f.name).collect();
        assert_eq!(names, ["ml_version", "ml_list_registered_model", "ml_list_settings"]);
    }

    #[test]
    fn names_are_unique_and_optional_parameters_last() {
        let mut names: Vec<&str> = all().map(|f| f.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for f in all() {
            let optional = f.parameters.iter().filter(|p| p.optional).count();
            assert_eq!(f.required() + optional, f.parameters.len(), "{}", f.name);
        }
    }

    #[test]
    fn the_reference_describes_every_function() {
        let text = include_str!("../../../docs/functions.md");
        // Exported texts without a routine are for scripts and views only.
        for f in exported().filter(|f| f.routine.is_some() || f.exported != Some(Exported::Bytes)) {
            let name = f.routine_name().map_or(f.name, |(_, name)| name);
            assert!(text.contains(name), "docs/functions.md lacks {name}");
        }
    }
}
