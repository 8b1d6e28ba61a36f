//! A fake of twelve AI APIs on this machine, for tests, the demo and benchmarks.
//!
//! It speaks the wire formats that the library calls, and records all requests. It can misbehave as a real or a
//! hostile endpoint does. It binds to 127.0.0.1 unless another address is given.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/embeddings` | OpenAI embeddings; model `test-N` gives N dimensions, another one 1536 |
//! | `/v1/chat/completions` | OpenAI chat: `You said: ` and the last user message |
//! | `/v1/rerank` | Jina's ranking, which servers with `OpenAI`'s interface have; scores of [`relevance_for`] |
//! | `/models/text/embeddings/v1` | `{"prompt": ["text"]}` to `[[f, ...]]`, 50 numbers each |
//! | `/auth/embeddings` | as `/v1/embeddings`, 401 without the expected key (the message repeats the wrong one) |
//! | `/echo` | the request as JSON; any method |
//! | `/bytes/N` | a JSON string of N characters (N + 2 bytes with its quotes) |
//! | `/status/CODE` | that status with an error body |
//! | `/retry/N/CODE[/SECONDS]` | CODE (and `Retry-After`) for the path's first N requests, then embeddings |
//! | `/ratelimit`, `/quota` | 429 with `Retry-After: 3600`; 429 with code `insufficient_quota` |
//! | `/delay/MS/REST` | `/REST`, late |
//! | `/drip` | the head at once, then one byte of a promised MiB every 100 ms |
//! | `/truncated` | less body than `Content-Length` says, then the end of the connection |
//! | `/huge`, `/gzip-bomb` | 100 MiB of valid JSON: chunked; compressed to some 100 KiB |
//! | `/huge-header` | a header of 1 MiB |
//! | `/redirect`, `/redirect-post` | 302 and 307 to `/v1/embeddings` |
//! | `/gzip` | embeddings, compressed whatever the client accepts |
//! | `/not-json`, `/broken-json`, `/no-data`, `/deep` | HTML; cut JSON; no `data`; 100,000 nested arrays |
//! | `/nan`, `/inf`, `/empty-embedding` | embeddings `[NaN,1.0]`, `[1e999]`, `[]` |
//! | `/wrong-width/N` | embeddings of N numbers whatever was asked |
//! | `/reset`, `/eof` | no answer: a TCP reset; an orderly end of the connection |
//! | `/close-keepalive` | a keep-alive answer, after which the connection is closed all the same |
//! | `/hang` | no answer until the client or the endpoint goes away |
//!
//! The routes of model interfaces answer 405 to anything but POST.
//!
//! Each of these prefixes stands for a provider's host. The routes below them are strict: they refuse a wrong header
//! or shape, and a missing or unknown member, as the service does. KEY is the expected key, or any key if none is
//! expected. TOKEN is a valid access token that one of Google's identity routes issued.
//!
//! | path | service |
//! |---|---|
//! | `/openai/v1/{embeddings,chat/completions,rerank}` | `OpenAI`, Bearer KEY; also models `test-N`; `rerank` as below `/v1` |
//! | `/azure/openai/deployments/NAME/{embeddings,chat/completions}` | Azure, `api-key: KEY`, `?api-version=` |
//! | `/anthropic/v1/{messages,messages/count_tokens}` | Anthropic, `x-api-key: KEY`, `anthropic-version: 2023-06-01` |
//! | `/vertex/v1/projects/P/locations/L/...` | Vertex AI, Bearer TOKEN; P is `test-project`, `other-project` or `my-project`. Models of Google (`:predict`, `:embedContent`, `:generateContent`, `:streamGenerateContent`, `:countTokens`) and Anthropic (`:rawPredict`, also of `count-tokens`), and `endpoints/E:predict` |
//! | `/gemini/v1beta/models/M:METHOD` | the Gemini API, `x-goog-api-key: KEY` |
//! | `/discovery/v1/projects/P/locations/L/rankingConfigs/C:rank` | ranking, Bearer TOKEN; scores of [`relevance_for`] |
//! | `/google-oauth/token`, `/google-sts/v1/token` | tokens for a signed assertion or a refresh token; for a subject token |
//! | `/iamcredentials/v1/projects/-/serviceAccounts/A:generateAccessToken` | a token for a TOKEN |
//! | `/computeMetadata/v1/...` | the metadata server: token, project and zone |
//! | `/secretmanager/v1/projects/P/[locations/L/]secrets/S/versions/V:access` | what [`Endpoint::set_secret`] set, Bearer TOKEN |
//! | `/huggingface/hf-inference/models/O/M/pipeline/feature-extraction` | Hugging Face, Bearer KEY; M ending in `-flat` answers `[f]`, in `-tokens` `[[[f]]]`, in `-loading` 503 |
//! | `/huggingface/models/O/M`, `/huggingface/v1/chat/completions` | its old interface of text generation; its chat |
//! | `/tei/{embed,rerank}` | Text Embeddings Inference, without a key |
//! | `/nim/v1/{embeddings,ranking,chat/completions}` | NVIDIA NIM, Bearer KEY |
//! | `/cohere/v2/{embed,rerank,chat}` | Cohere, Bearer KEY |
//! | `/voyage/v1/{embeddings,rerank}` | Voyage AI, Bearer KEY |
//! | `/mistral/v1/{embeddings,chat/completions}` | Mistral, Bearer KEY |
//! | `/ollama/api/{embed,chat,generate}`, `/api/...` | Ollama, without a key; there is no model `missing` |
//! | `/bedrock/model/M/{invoke,converse}` | Amazon Bedrock, Bearer KEY; Titan's and Cohere's embeddings, Cohere's ranking, any model's `converse` |
//!
//! # Answers of the chats
//!
//! `You said: ` and the user's last message. Requests for JSON have each provider's own form. Schemas that the provider
//! does not support get its own refusal:
//!
//! | provider | form | refused |
//! |---|---|---|
//! | `OpenAI`, Azure | `response_format`: `json_schema`, `json_object` | with `strict`: open objects, optional properties, unknown keywords; `json_object` when no message says JSON; at `OpenAI` schemas with `gpt-3.5-...`, `gpt-4`, `gpt-4-...` |
//! | Mistral, NIM, Hugging Face, `/v1/chat/completions`, `/bench` | the same | nothing |
//! | Anthropic | `output_config.format` | open objects, bounds, `oneOf`; `claude-2` and `claude-3` |
//! | Gemini, Vertex AI | `generationConfig`: `responseSchema` or `responseJsonSchema`, with `responseMimeType` | in `responseSchema` what Google's message has no field for; on Vertex AI fields beside `anyOf` |
//! | Cohere | `response_format`: `json_object`, perhaps with `json_schema` | objects without a required property |
//! | Ollama | `format`: a schema or `json` | |
//! | Bedrock | `outputConfig.textFormat`, the schema as a text | as Anthropic; also by models of Titan and Nova |
//! | Hugging Face's text generation | `parameters.grammar` | |
//!
//! The answer is read from the user's last message, by fixed rules:
//!
//! | schema | value |
//! |---|---|
//! | `enum` | the first of its values that occurs in the text, in any case; else the last one |
//! | boolean | whether the text has the word `yes` or `true` |
//! | number, integer | the number after `NAME=` or `NAME:`; else from 0 to 1 the one after `score=`, or 0.5; else the first one in the text, or 0 |
//! | string | the text after `NAME:` up to a comma, a semicolon or the line's end; else NAME in upper case |
//! | array | one item; for items with an `enum` all values that occur in the text; a score of [`relevance_for`] for each of the `documents` of a JSON object with `query`, where items have `index` and `score` |
//! | object | all properties |
//!
//! If null is allowed, it is the value of a string or an `enum` that is not found, and of a boolean if the text has
//! the word `unsure`. JSON without a schema follows a schema in one of the messages, else it is `{"answer": TEXT}`. Any
//! chat follows a schema in a message with the words "JSON Schema".
//!
//! Images are checked in each provider's own form and refused if they are none. In the text that is said an image is
//! `(MIME_TYPE, N bytes) ` or `(URL) `. `OpenAI`'s `gpt-3.5-...` and `gpt-4` take none.
//!
//! A schema with `answers`, whose items have `row` and `answer`, asks about several rows: lines of JSON objects with `row`
//! and `text`. Each answer is read from its row's text; a line that is none, such as `row 2: TEXT`, is obeyed.
//!
//! A marker in the user's message changes the answer of any chat, in the provider's own shape. Of the user's messages
//! with a marker the last one counts. Values are read from the rest of that message:
//!
//! | marker | answer |
//! |---|---|
//! | `[[answer:TEXT]]` | exactly TEXT |
//! | `[[once:TEXT]]` | TEXT to the user's first message; the usual answer when the dialogue goes on, or when a lone prompt quotes TEXT |
//! | `[[fenced]]` | the text in a Markdown code fence |
//! | `[[cut]]` | half of the text, ended by the limit of tokens |
//! | `[[refuse]]` | the provider's refusal |
//! | `[[tool]]` | a call of a tool |
//! | `[[empty]]` | no choices, candidates or content |
//! | `[[status:CODE]]` | an error with that status |
//! | `[[slow:MS]]` | the same, after this many milliseconds |
//! | `[[rows:FLAW]]` | of several rows: `short`, an answer too few; `double`, a row number twice; `more`, an answer too many; `unfit`, null for the first row; `reversed`, no flaw but the order |
//!
//! [`Internet`] is a proxy from the providers' own hosts to these prefixes.
//!
//! A chat with a latency, for benchmarks, and limiters in front of other routes:
//!
//! | path | answer |
//! |---|---|
//! | `/bench/v1/chat/completions?ms=MS` | as `/v1/chat/completions`, after this many milliseconds |
//! | `/limited/REST` | `/REST` up to the limit of a window ([`Endpoint::set_rate_limit`]), else 429 with the time to wait |
//! | `/pause-once/SECONDS/REST` | 429 with `Retry-After` for that time after the path's first request, then `/REST` |
//! | `/concurrent/N/REST` | `/REST` after 20 ms; 429 without a hint while N requests are in progress |
//! | `/spend-limit` | Anthropic's 429 that lasts, however long the client waits |

mod answer;
mod connection;
mod embedding;
mod endpoint;
mod hosts;
pub mod hub;
mod internet;
mod misbehave;
mod ports;
mod providers;
mod reply;
mod request;
mod routes;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub use answer::Answer;
pub use embedding::embedding_for;
pub use endpoint::{serve, Endpoint};
pub use internet::Internet;
pub use ports::{refused_port, Blackhole};
pub use providers::relevance_for;
pub use request::Recorded;
pub use tls::Certificate;
