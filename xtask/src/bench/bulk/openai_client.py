"""Embeds the table bench.t with the official openai client: asynchronous, 64 requests at once, 100 texts in each, vectors
written as bytes by executemany, while others are on their way. What one writes without the library.

Arguments: the endpoint's base URL, the server's socket. Prints the rows a second.
"""

import array
import asyncio
import sys
import time

import mysql.connector
import openai

BATCH = 100
AT_ONCE = 64
WRITE = "INSERT INTO bench.t (id, v) VALUES (%s, _binary %s) AS new ON DUPLICATE KEY UPDATE v = new.v"


async def main(url, socket):
    connection = mysql.connector.connect(user="root", unix_socket=socket, charset="utf8mb4")
    cursor = connection.cursor()
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    started = time.perf_counter()
    cursor.execute("SELECT id, body FROM bench.t WHERE v IS NULL ORDER BY id")
    rows = cursor.fetchall()
    limit = asyncio.Semaphore(AT_ONCE)
    done = asyncio.Queue()

    async def embed(batch):
        async with limit:
            answer = await client.embeddings.create(model="bench-model", input=[body for _, body in batch])
        vectors = [array.array("f", item.embedding).tobytes() for item in answer.data]
        await done.put([(key, vector) for (key, _), vector in zip(batch, vectors)])

    def write(values):
        cursor.executemany(WRITE, values)
        connection.commit()

    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    tasks = [asyncio.create_task(embed(batch)) for batch in batches]
    for _ in batches:
        await asyncio.to_thread(write, await done.get())
    await asyncio.gather(*tasks)
    print(len(rows) / (time.perf_counter() - started))


asyncio.run(main(*sys.argv[1:]))
