"""A consumer: takes every message of every device from the stream, keeps it once, and switches fans.

    pip install nats-py
    python3 consumer.py

NATS_URL is nats://localhost:4222 unless set. READINGS is the SQLite file to keep them in, readings.db.
"""

import asyncio
import json
import os
import sqlite3
from urllib.parse import unquote

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

database = sqlite3.connect(os.environ.get("READINGS", "readings.db"), isolation_level=None)
database.execute("CREATE TABLE IF NOT EXISTS readings (device TEXT, id TEXT, reading TEXT, PRIMARY KEY (device, id))")


def keep(device, reading):
    """Keeps a message; False when it was kept before.

    A message can come twice: it is stored again when its acknowledgement was lost on the way to the device, and
    delivered again when ours was lost. The primary key makes it count once.
    """
    row = (device, reading["id"], json.dumps(reading))
    return database.execute("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", row).rowcount == 1


async def take(connection, message):
    # raw.<device id>; the gateway lets no device use another's. The topic is in a header.
    token = message.subject.split(".")[1]
    device = unquote(token)
    levels = (message.headers or {}).get("Mqtt-Topic", "").split("/")
    kind = levels[2] if len(levels) > 2 else None
    try:
        reading = json.loads(message.data)
        if not isinstance(reading, dict) or not isinstance(reading.get("id"), str):
            raise ValueError("it has no id")
    except ValueError as error:
        # It will not get better: say so, and do not have it delivered again.
        print(f"{device} unreadable: {error}", flush=True)
        await message.term()
        return

    if not keep(device, reading):
        print(f"{device} {reading['id']} again", flush=True)
    elif kind == "temperature":
        print(f"{device} {reading['id']} {reading['celsius']} °C", flush=True)
        # A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/… if it is connected.
        if reading["celsius"] > 30:
            await connection.publish(f"cmd.{token}.fan", b"on")
        if reading["celsius"] < 25:
            await connection.publish(f"cmd.{token}.fan", b"off")
    elif kind == "fan":
        print(f"{device} {reading['id']} fan {reading['fan']}", flush=True)
    # Only now: what was not acknowledged within 30 s is delivered again, also to another copy of this program.
    await message.ack()


async def main():
    connection = await nats.connect(
        os.environ.get("NATS_URL", "nats://localhost:4222"), max_reconnect_attempts=-1
    )
    # A durable consumer: NATS remembers what was acknowledged, so nothing is missed while this program does not run.
    # Run it twice, and the two share the work.
    subscription = await connection.jetstream().pull_subscribe(
        "raw.>",
        durable="readings-python",
        stream="RAW",
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.EXPLICIT, ack_wait=30),
    )
    while True:
        try:
            messages = await subscription.fetch(100, timeout=5)
        except asyncio.TimeoutError:  # nothing came; nats.errors.TimeoutError is one of these
            continue
        for message in messages:
            await take(connection, message)


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
