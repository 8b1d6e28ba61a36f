// mysql2: text and binary protocol, its pool.

const mysql = require("mysql2/promise");
const assert = require("assert");

const WIDTH = 384;
const CHAT = JSON.stringify({ messages: [{ role: "user", content: "hello" }] });
const login = {
  host: process.env.MYSQL_HOST, port: Number(process.env.MYSQL_PORT),
  user: process.env.MYSQL_USER, password: process.env.MYSQL_PWD, database: "shop",
};
let checks = 0;

function same(what, seen, wanted) {
  assert.deepStrictEqual(seen, wanted, what);
  checks += 1;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

async function main() {
  const db = await mysql.createConnection(login);
  for (const method of ["query", "execute"]) {
    const run = (sql, values) => db[method](sql, values);
    const [[row]] = await run("SELECT mysql.ml_embedding('words', ?) AS v, mysql.ml_embedding('words', NULL) AS n, STRING_TO_VECTOR(NULL) AS own", ["x"]);
    // It knows the server's type VECTOR.
    same(`${method}: a vector is its numbers`, [Array.isArray(row.v), row.v.length], [true, WIDTH]);
    const bytes = Buffer.from(new Float32Array(row.v).buffer);
    const [[bare]] = await run("SELECT ml_embedding('words', ?) AS v", ["x"]);
    same(`${method}: the loadable function gives its bytes`, bytes.equals(bare.v), true);
    // The driver's text protocol makes an empty array of a NULL VECTOR, the server's own too.
    same(`${method}: NULL`, row.n, row.own);
    same(`${method}: NULL`, method === "query" ? row.n.length : row.n, method === "query" ? 0 : null);
    const mark = method === "query" ? "_binary ?" : "?";
    const [[near]] = await run(`SELECT id, cosine_distance(v, ${mark}) AS d FROM docs ORDER BY d LIMIT 1`, [bytes]);
    same(`${method}: a distance`, [typeof near.id, typeof near.d], ["number", "number"]);
    const [[answer]] = await run("SELECT mysql.ml_predict_row('chat', ?) AS a", [CHAT]);
    same(`${method}: JSON`, answer.a.choices[0].message.content, "You said: hello");
    const error = await failure(run("SELECT mysql.ml_embedding('refused', ?)", ["x"]));
    same(`${method}: code`, [error.errno, error.sqlState], [3200, "HY000"]);
    same(`${method}: text`, /401/.test(error.sqlMessage), true);
    const late = await failure(run("SELECT /*+ MAX_EXECUTION_TIME(100) */ mysql.ml_embedding('hanging', ?)", ["x"]));
    same(`${method}: too long`, late.errno, 3024);
  }
  await db.end();

  const pool = mysql.createPool({ ...login, connectionLimit: 4 });
  const texts = Array.from({ length: 100 }, (_, i) => `text ${i % 9}`);
  const vectors = await Promise.all(
    texts.map(async (text) => (await pool.execute("SELECT mysql.ml_embedding('words', ?) AS v", [text]))[0][0].v.join()),
  );
  same("pool: one vector for each text", new Set(vectors).size, 9);
  await pool.end();
  console.log(`checks: ${checks}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
