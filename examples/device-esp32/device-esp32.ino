// A device for the ESP32: publishes a temperature every five seconds and switches a pin when it is told to.
//
//   Arduino IDE: board package "esp32" by Espressif, 3.0 or later; no other library. Fill in the five values below, upload.
//   arduino-cli compile --fqbn esp32:esp32:esp32 device-esp32 && arduino-cli upload --fqbn esp32:esp32:esp32 --port /dev/ttyUSB0 device-esp32
//
// FOR READING: the tests of the project have no board. They run the other samples, not this one.
//
// It uses the MQTT client that comes with the board package. Many Arduino libraries, PubSubClient among them, publish
// with QoS 0 only: that is never acknowledged, so the device would not know what was stored.

#include <WiFi.h>

#include "mqtt_client.h"

static const char *WIFI_NAME = "…";
static const char *WIFI_PASSWORD = "…";
static const char *DEVICE_ID = "…";
static const char *DEVICE_PASSWORD = "…";
static const char *GATEWAY = "mqtt://192.0.2.10:1883";  // or mqtts://gateway.example:8883, see setup()

static const int FAN_PIN = 2;
static const unsigned long INTERVAL_MS = 5000;
// The client forgets a message that was not acknowledged within 30 s, so after that it is given to it again.
static const unsigned long SEND_AGAIN_MS = 40000;

static esp_mqtt_client_handle_t client;
static uint32_t boot;
static uint32_t count = 0;
// One reading at a time: the next is taken when this one is stored.
static char reading[96];
static volatile bool waits = false;
static volatile int readingId = -1;  // what the client calls it
static unsigned long takenMs = 0;
static unsigned long sentMs = 0;

static void sendReading() {
  char topic[160];
  snprintf(topic, sizeof topic, "raw/%s/temperature", DEVICE_ID);
  readingId = esp_mqtt_client_enqueue(client, topic, reading, 0, 1, 0, true);  // QoS 1
  sentMs = millis();
}

static void onMqtt(void *, esp_event_base_t, int32_t id, void *data) {
  auto event = static_cast<esp_mqtt_event_handle_t>(data);
  char topic[160];
  switch (id) {
    case MQTT_EVENT_CONNECTED:
      Serial.println("connected");
      snprintf(topic, sizeof topic, "cmd/%s/#", DEVICE_ID);
      esp_mqtt_client_subscribe_single(client, topic, 1);
      break;
    case MQTT_EVENT_PUBLISHED:  // PUBACK: JetStream has stored the message
      if (event->msg_id == readingId) {
        waits = false;
        Serial.printf("stored %s\n", reading);
      }
      break;
    case MQTT_EVENT_DATA:
      snprintf(topic, sizeof topic, "cmd/%s/fan", DEVICE_ID);
      if (event->topic_len == (int)strlen(topic) && strncmp(event->topic, topic, event->topic_len) == 0) {
        bool on = event->data_len == 2 && strncmp(event->data, "on", 2) == 0;
        digitalWrite(FAN_PIN, on ? HIGH : LOW);
        Serial.printf("fan %s\n", on ? "on" : "off");
      }
      break;
    case MQTT_EVENT_ERROR:
      if (event->error_handle->error_type == MQTT_ERROR_TYPE_CONNECTION_REFUSED)
        Serial.printf("refused: CONNACK %d\n", event->error_handle->connect_return_code);
      break;
  }
}

void setup() {
  Serial.begin(115200);
  pinMode(FAN_PIN, OUTPUT);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  boot = esp_random();

  esp_mqtt_client_config_t config = {};
  config.broker.address.uri = GATEWAY;
  // With mqtts: the root certificate of your authority as PEM text. Without it the gateway is not verified.
  // config.broker.verification.certificate = "-----BEGIN CERTIFICATE-----\n…";
  config.credentials.username = DEVICE_ID;
  config.credentials.authentication.password = DEVICE_PASSWORD;
  // The session, and the commands in it, are kept while the device is away for a moment.
  config.credentials.client_id = "main";
  config.session.disable_clean_session = true;
  client = esp_mqtt_client_init(&config);
  esp_mqtt_client_register_event(client, MQTT_EVENT_ANY, onMqtt, nullptr);
  esp_mqtt_client_start(client);  // it connects, and connects again, by itself
}

void loop() {
  unsigned long nowMs = millis();
  if (!waits && nowMs - takenMs >= INTERVAL_MS) {
    takenMs = nowMs;
    // The id lets a consumer tell a repeated message from a new one.
    snprintf(reading, sizeof reading, "{\"id\":\"%08lx-%lu\",\"celsius\":%.1f}", (unsigned long)boot,
             (unsigned long)++count, temperatureRead());
    waits = true;
    sendReading();
  } else if (waits && nowMs - sentMs >= SEND_AGAIN_MS) {
    sendReading();
  }
  delay(50);
}
