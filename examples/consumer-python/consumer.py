"""A consumer: takes every message of every device from the stream, keeps it once, and switches fans.

    pip install nats-py
    python3 consumer.py

NATS_URL is nats://localhost:4222 unless set. READINGS is the SQLite file to keep them in, readings.db.
"""

import asyncio
import json
import os
import re
import sqlite3
import sys
from urllib.parse import unquote

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

database = sqlite3.connect(os.environ.get("READINGS", "readings.db"), isolation_level=None)
database.execute("CREATE TABLE IF NOT EXISTS readings (device TEXT, id TEXT, reading TEXT, PRIMARY KEY (device, id))")


def is_kept(device, reading):
    """Whether a message was kept before.

    A message can come twice: it is stored again when its acknowledgement was lost on the way to the device, and
    delivered again when ours was lost. The id makes it count once.
    """
    row = (device, reading["id"])
    return database.execute("SELECT 1 FROM readings WHERE device = ? AND id = ?", row).fetchone() is not None


def keep(device, reading, text):
    """Keeps a message. The primary key makes it count once, also where two copies of this program have it."""
    row = (device, reading["id"], text)
    database.execute("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", row)


def read(data, kind):
    """Reads a message, and writes it as text that can be kept, or raises ValueError.

    A device can send anything: believe nothing that was not looked at.
    """
    try:
        reading = json.loads(data)
        text = json.dumps(reading)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(reading, dict) or not isinstance(reading.get("id"), str):
        raise ValueError("it has no id")
    if not re.fullmatch("[!-~]{1,64}", reading["id"]):
        raise ValueError("its id has not 1 to 64 printable characters")
    celsius = reading.get("celsius")
    if kind == "temperature" and not (type(celsius) in (int, float) and -300 < celsius < 3_000):
        raise ValueError("it has no temperature")
    if kind == "fan" and reading.get("fan") not in ("on", "off"):
        raise ValueError("it does not say whether the fan is on")
    return reading, text


async def take(jetstream, message):
    # raw.<device id>; the gateway lets no device use another's. The topic is in a header.
    token = message.subject.split(".")[1]
    device = unquote(token)
    levels = (message.headers or {}).get("Mqtt-Topic", "").split("/")
    kind = levels[2] if len(levels) > 2 else None
    try:
        reading, text = read(message.data, kind)
    except ValueError as error:
        # It will not get better: say so, and do not have it delivered again.
        print(f"{device} unreadable: {error}", flush=True)
        await message.term()
        return

    if is_kept(device, reading):
        print(f"{device} {reading['id']} again", flush=True)
        await message.ack()
        return
    if kind == "temperature":
        print(f"{device} {reading['id']} {reading['celsius']} °C", flush=True)
        # A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/…, at once if it is connected,
        # else when it comes back to its session. This returns when the command is stored.
        if reading["celsius"] > 30:
            await jetstream.publish(f"cmd.{token}.fan", b"on")
        if reading["celsius"] < 25:
            await jetstream.publish(f"cmd.{token}.fan", b"off")
    elif kind == "fan":
        print(f"{device} {reading['id']} fan {reading['fan']}", flush=True)
    # Only now that all is done: if this program ends before, the message comes again, and the command can be sent twice.
    keep(device, reading, text)
    # What was not acknowledged within 30 s is delivered again, also to another copy of this program.
    await message.ack()


async def main():
    connection = await nats.connect(
        os.environ.get("NATS_URL", "nats://localhost:4222"), max_reconnect_attempts=-1
    )
    # A durable consumer: NATS remembers what was acknowledged, so nothing is missed while this program does not run.
    # Run it twice, and the two share the work.
    jetstream = connection.jetstream()
    subscription = await jetstream.pull_subscribe(
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
            try:
                await take(jetstream, message)
            except nats.errors.Error as error:
                # Not acknowledged, so it comes again.
                print(f"{message.subject} is not done: {error!r}", file=sys.stderr, flush=True)


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
