"""Paho for Python, version 2, as a device of MQTT 5. Prints a line of JSON for each thing that happens:

paho-mqtt5.py <port> <device id> <password> <topic that is refused>
"""

import json
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, device, password, refused = int(sys.argv[1]), *sys.argv[2:5]
qos_of = {}


def say(*words):
    print(json.dumps(words), flush=True)


def on_connect(client, userdata, flags, code, properties):
    say("connected", code.value)
    if code.value == 0:
        client.subscribe(f"cmd/{device}/#", 1)


def on_subscribe(client, userdata, mid, codes, properties):
    say("subscribed", codes[0].value)
    listed = Properties(PacketTypes.PUBLISH)
    listed.ContentType = "text/plain"
    listed.UserProperty = [("a", "1"), ("a", "2")]
    for topic, qos in [*((f"raw/{device}/{qos}", qos) for qos in (0, 1, 2)), (refused, 1)]:
        qos_of[client.publish(topic, "hello", qos, properties=listed).mid] = qos


def on_publish(client, userdata, mid, code, properties):
    if qos_of.get(mid) != 0:
        say("answered", qos_of[mid], code.value)


def on_message(client, userdata, message):
    properties = message.properties
    user = getattr(properties, "UserProperty", [])
    say("command", message.topic, message.payload.decode(), properties.ContentType, user)


client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="paho-python", protocol=mqtt.MQTTv5, reconnect_on_failure=False)
client.username_pw_set(device, password)
client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_publish = on_publish
client.on_message = on_message
client.on_disconnect = lambda client, userdata, flags, code, properties: say("ended", code.value)
client.connect("127.0.0.1", port)
client.loop_forever()
