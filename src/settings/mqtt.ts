import { boolean, oneOf, port, setting, text, textOf } from './setting.js';

/** The MQTT broker and its listeners. */
export const mqttSettings = {
  mqttHost: setting({
    schema: text,
    default: '::',
    help: 'Address the MQTT broker listens on',
  }),
  mqttPort: setting({
    schema: port,
    default: 1883,
    help: 'Port of the MQTT broker; 0: any free one',
  }),
  mqttTcp: setting({
    schema: boolean,
    default: true,
    help: 'Listen on MQTT_PORT, without encryption; false: on the other ports only',
    offHelp: 'Do not listen on MQTT_PORT, which is without encryption, but on the other ports only',
  }),
  onDeniedPublish: setting({
    schema: oneOf('answer', 'disconnect'),
    default: 'answer',
    help: 'A client of MQTT 5 that publishes outside its policy: answer, PUBACK or PUBREC 0x87, and QoS 0 is dropped; disconnect, DISCONNECT 0x87. Clients of MQTT 3 are always disconnected',
  }),
  onUnreadableSession: setting({
    schema: oneOf('refuse', 'renew'),
    default: 'refuse',
    help: 'The stored session of a client is damaged, or of a later version: refuse, CONNACK 3 or 0x88 until it connects with a clean session, and the record stays; renew, it begins anew without what was in the session',
  }),
  tlsCert: setting({
    schema: text,
    help: 'File (PEM) with the certificate of the MQTT broker and its chain; with TLS_KEY it opens MQTTS_PORT. Read again when it changes',
  }),
  tlsKey: setting({
    schema: text,
    help: 'File (PEM, without passphrase) with the private key of TLS_CERT',
  }),
  mqttsPort: setting({
    schema: port,
    default: 8883,
    help: 'Port for MQTT over TLS, 1.2 or newer, open when TLS_CERT and TLS_KEY are set; 0: any free one',
  }),
  wsPort: setting({
    schema: port,
    help: 'Port for MQTT over WebSocket, path /mqtt, without encryption; 0: any free one; unset: none',
  }),
  wssPort: setting({
    schema: port,
    help: 'Port for MQTT over WebSocket and TLS, path /mqtt; wants TLS_CERT and TLS_KEY; 0: any free one; unset: none',
  }),
  mqttClientCa: setting({
    schema: text,
    help: 'File (PEM) with the authorities whose client certificates log devices in: the subject common name or an alternative name is the device id; unset: none are asked for',
  }),
  mqttClientCert: setting({
    schema: oneOf('optional', 'required', 'with-password'),
    default: 'optional',
    help: 'With MQTT_CLIENT_CA: optional: a certificate or a password; required: a certificate, on every port; with-password: a certificate and the password',
  }),
  mqttClientCertUri: setting({
    schema: textOf({
      pattern: '^[^{}]{0,200}\\{id\\}[^{}]{0,200}$',
      description: 'text with {id} in it and no other brace, at most 200 characters on each side',
    }),
    default: '{id}',
    help: 'Form of the URI in a client certificate that holds the device id, for example urn:device:{id}',
  }),
  proxyProtocolFrom: setting({
    schema: text,
    help: 'Addresses of load balancers, comma-separated, as 10.0.0.0/8,::1: every MQTT connection from them must begin with a PROXY protocol header (v1 or v2) and is closed without one; from other addresses none is read',
  }),
  acl: setting({
    schema: oneOf('confined', 'open'),
    default: 'confined',
    help: 'confined: publish raw.<id>, raw/<id>, raw/<id>/#, subscribe cmd/<id>/#; open: every device may publish and subscribe anywhere, as in the old service',
  }),
} as const;
