/*
 * Paho for C as a device of MQTT 5. Prints a line of JSON for each thing that happens:
 *   paho-mqtt5 <port> <device id> <password> <topic that is refused>
 * Built with -lpaho-mqtt3c.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MQTTClient client;
/* The QoS of what was sent, by the token of Paho. */
static int qos_of[65536];
static volatile int ended = 0;

static void print_text(const char *text, int length) {
  putchar('"');
  for (int at = 0; at < length; at += 1) {
    if (text[at] == '"' || text[at] == '\\') putchar('\\');
    putchar(text[at]);
  }
  putchar('"');
}

static void end_line(void) {
  printf("]\n");
  fflush(stdout);
}

static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes code) {
  printf("[\"ended\",%d", code);
  end_line();
  ended = 1;
}

static void on_lost(void *context, char *cause) { ended = 1; }

static void on_published(void *context, int token, int packet_type, MQTTProperties *properties,
                         enum MQTTReasonCodes code) {
  printf("[\"answered\",%d,%d", qos_of[token], code);
  end_line();
}

static int on_message(void *context, char *topic, int topic_length, MQTTClient_message *message) {
  MQTTProperty *type = MQTTProperties_getProperty(&message->properties, MQTTPROPERTY_CODE_CONTENT_TYPE);
  printf("[\"command\",");
  print_text(topic, strlen(topic));
  putchar(',');
  print_text(message->payload, message->payloadlen);
  putchar(',');
  print_text(type == NULL ? "" : type->value.data.data, type == NULL ? 0 : type->value.data.len);
  printf(",[");
  for (int at = 0;; at += 1) {
    MQTTProperty *pair =
        MQTTProperties_getPropertyAt(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY, at);
    if (pair == NULL) break;
    printf(at == 0 ? "[" : ",[");
    print_text(pair->value.data.data, pair->value.data.len);
    putchar(',');
    print_text(pair->value.value.data, pair->value.value.len);
    putchar(']');
  }
  putchar(']');
  end_line();
  MQTTClient_freeMessage(&message);
  MQTTClient_free(topic);
  return 1;
}

static void add_user_property(MQTTProperties *properties, char *name, char *value) {
  MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
  property.value.data.data = name;
  property.value.data.len = strlen(name);
  property.value.value.data = value;
  property.value.value.len = strlen(value);
  MQTTProperties_add(properties, &property);
}

static void publish(const char *topic, const char *payload, int qos) {
  MQTTClient_message message = MQTTClient_message_initializer;
  MQTTProperty type = {.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE};
  type.value.data.data = "text/plain";
  type.value.data.len = strlen("text/plain");
  MQTTProperties_add(&message.properties, &type);
  add_user_property(&message.properties, "a", "1");
  add_user_property(&message.properties, "a", "2");
  message.payload = (void *)payload;
  message.payloadlen = strlen(payload);
  message.qos = qos;
  MQTTClient_deliveryToken token = 0;
  MQTTResponse response = MQTTClient_publishMessage5(client, topic, &message, &token);
  qos_of[token & 0xffff] = qos;
  MQTTResponse_free(response);
  MQTTProperties_free(&message.properties);
  /* One after the other, so that the token is noted before its answer comes. */
  if (qos > 0) MQTTClient_waitForCompletion(client, token, 60000);
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  char address[64], topic[256];
  const char *device = arguments[2];
  snprintf(address, sizeof address, "tcp://127.0.0.1:%s", arguments[1]);
  MQTTClient_createOptions created = MQTTClient_createOptions_initializer;
  created.MQTTVersion = MQTTVERSION_5;
  if (MQTTClient_createWithOptions(&client, address, "paho-c", MQTTCLIENT_PERSISTENCE_NONE, NULL, &created) != 0)
    return 3;
  MQTTClient_setCallbacks(client, NULL, on_lost, on_message, NULL);
  MQTTClient_setPublished(client, NULL, on_published);
  MQTTClient_setDisconnected(client, NULL, on_disconnected);
  MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
  options.MQTTVersion = MQTTVERSION_5;
  options.username = device;
  options.password = arguments[3];
  MQTTResponse response = MQTTClient_connect5(client, &options, NULL, NULL);
  printf("[\"connected\",%d", response.reasonCode);
  end_line();
  if (response.reasonCode != MQTTREASONCODE_SUCCESS) return 4;
  MQTTResponse_free(response);
  snprintf(topic, sizeof topic, "cmd/%s/#", device);
  response = MQTTClient_subscribe5(client, topic, 1, NULL, NULL);
  printf("[\"subscribed\",%d", response.reasonCode);
  end_line();
  MQTTResponse_free(response);
  for (int qos = 0; qos <= 2; qos += 1) {
    snprintf(topic, sizeof topic, "raw/%s/%d", device, qos);
    publish(topic, "hello", qos);
  }
  publish(arguments[4], "refused", 1);
  while (!ended) usleep(10000);
  MQTTClient_destroy(&client);
  return 0;
}
