"""A device: publishes a temperature now and then, and switches its fan when it is told to.

    pip install 'paho-mqtt>=2'
    DEVICE_ID=… DEVICE_PASSWORD=… python3 device.py

MQTT_URL is mqtt://localhost:1883 unless set; mqtts://gateway.example:8883 is TLS. MQTT_CA names a file with the
certificate authority when it is not one that the system trusts. INTERVAL_SEC is the time between two readings, 5.
"""

import json
import os
import secrets
import time
from collections import deque
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

DEVICE_ID = os.environ["DEVICE_ID"]
GATEWAY = urlsplit(os.environ.get("MQTT_URL", "mqtt://localhost:1883"))
INTERVAL_SEC = float(os.environ.get("INTERVAL_SEC", "5"))
MOST_WAITING = 1000

# With a message id of its own in each payload a consumer can tell a repeated message from a new one.
boot = secrets.token_hex(4)
count = 0
waiting = deque()
acknowledged = set()
fan = False
celsius = 28.0


def send(kind, reading):
    """Publishes with QoS 1. What is not acknowledged is sent again after a reconnect, with the same payload."""
    global count
    if len(waiting) >= MOST_WAITING:
        print("too much is waiting: a reading is left out", flush=True)
        return
    count += 1
    message_id = f"{boot}-{count}"
    payload = json.dumps({"id": message_id, **reading})
    waiting.append((message_id, client.publish(f"raw/{DEVICE_ID}/{kind}", payload, qos=1).mid))


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        print(f"refused: {reason}", flush=True)
        return
    print("connected", flush=True)
    client.subscribe(f"cmd/{DEVICE_ID}/#", qos=1)


def on_message(client, userdata, message):
    global fan
    if message.topic == f"cmd/{DEVICE_ID}/fan":
        fan = message.payload == b"on"
        print(f"fan {'on' if fan else 'off'}", flush=True)


def on_publish(client, userdata, mid, reason, properties):
    # Acknowledged, and the gateway acknowledges what JetStream has stored.
    acknowledged.add(mid)


# clean_session=False keeps the session, and the commands in it, while the device is away for a moment. The session
# belongs to the client id, which is this device's own: another device may use the same one.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="main", clean_session=False)
client.username_pw_set(DEVICE_ID, os.environ["DEVICE_PASSWORD"])
if GATEWAY.scheme == "mqtts":
    client.tls_set(ca_certs=os.environ.get("MQTT_CA"))
client.on_connect = on_connect
client.on_message = on_message
client.on_publish = on_publish
client.reconnect_delay_set(min_delay=1, max_delay=60)
client.connect_async(GATEWAY.hostname, GATEWAY.port or (8883 if GATEWAY.scheme == "mqtts" else 1883))
client.loop_start()

try:
    shown = fan
    while True:
        celsius += -1 if fan else 1
        send("temperature", {"celsius": celsius})
        if fan != shown:
            shown = fan
            send("fan", {"fan": "on" if fan else "off"})
        time.sleep(INTERVAL_SEC)
        while waiting and waiting[0][1] in acknowledged:
            message_id, mid = waiting.popleft()
            acknowledged.remove(mid)
            print(f"stored {message_id}", flush=True)
except KeyboardInterrupt:
    client.disconnect()
