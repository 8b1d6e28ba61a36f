"""Asks about every row of a table with the official openai client: asynchronous, several requests at once. What one writes
without the library.

Arguments: the endpoint's base URL, its latency in milliseconds, the number of concurrent requests, the server's socket, the
table. Standard input: a request as JSON; the table's text replaces the last message. Prints the seconds and the ids whose
answer is yes.
"""

import asyncio
import json
import sys
import time

import mysql.connector
import openai


async def main(url, ms, at_once, socket, table):
    request = json.load(sys.stdin)
    *before, last = request.pop("messages")
    connection = mysql.connector.connect(user="root", unix_socket=socket, charset="utf8mb4")
    cursor = connection.cursor()
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, default_query={"ms": ms})
    started = time.perf_counter()
    cursor.execute(f"SELECT id, body FROM {table} ORDER BY id")
    rows = cursor.fetchall()
    limit = asyncio.Semaphore(int(at_once))

    async def ask(key, body):
        async with limit:
            answer = await client.chat.completions.create(**request, messages=[*before, {**last, "content": body}])
        return key, json.loads(answer.choices[0].message.content)["answer"]

    answers = await asyncio.gather(*(ask(key, body) for key, body in rows))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "yes": [key for key, answer in answers if answer == "yes"]}))


asyncio.run(main(*sys.argv[1:]))
