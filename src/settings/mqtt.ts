import Type from 'typebox';
import { port, setting, text } from './setting.js';

/** The MQTT broker and its listeners. */
export const mqttSettings = {
  mqttHost: setting({
    env: ['MQTT_HOST'],
    flag: 'mqtt-host',
    schema: text,
    default: '::',
    help: 'Address the MQTT broker listens on',
  }),
  mqttPort: setting({
    env: ['MQTT_PORT'],
    flag: 'mqtt-port',
    schema: port,
    default: 1883,
    help: 'Port of the MQTT broker; 0: any free one',
  }),
  mqttTcp: setting({
    env: ['MQTT_TCP'],
    flag: 'mqtt-tcp',
    schema: Type.Boolean(),
    default: true,
    help: 'Listen on MQTT_PORT, without encryption; false: on the other ports only',
    offHelp: 'Do not listen on MQTT_PORT, which is without encryption, but on the other ports only',
  }),
  tlsCert: setting({
    env: ['TLS_CERT'],
    flag: 'tls-cert',
    schema: text,
    default: undefined,
    help: 'File (PEM) with the certificate of the MQTT broker and its chain; with TLS_KEY it opens MQTTS_PORT. Read again when it changes',
  }),
  tlsKey: setting({
    env: ['TLS_KEY'],
    flag: 'tls-key',
    schema: text,
    default: undefined,
    help: 'File (PEM, without passphrase) with the private key of TLS_CERT',
  }),
  mqttsPort: setting({
    env: ['MQTTS_PORT'],
    flag: 'mqtts-port',
    schema: port,
    default: 8883,
    help: 'Port for MQTT over TLS, 1.2 or newer, open when TLS_CERT and TLS_KEY are set; 0: any free one',
  }),
  wsPort: setting({
    env: ['WS_PORT'],
    flag: 'ws-port',
    schema: port,
    default: undefined,
    help: 'Port for MQTT over WebSocket, path /mqtt, without encryption; 0: any free one; unset: none',
  }),
  wssPort: setting({
    env: ['WSS_PORT'],
    flag: 'wss-port',
    schema: port,
    default: undefined,
    help: 'Port for MQTT over WebSocket and TLS, path /mqtt; wants TLS_CERT and TLS_KEY; 0: any free one; unset: none',
  }),
  mqttClientCa: setting({
    env: ['MQTT_CLIENT_CA'],
    flag: 'mqtt-client-ca',
    schema: text,
    default: undefined,
    help: 'File (PEM) with the authorities whose client certificates log devices in: the subject common name or an alternative name is the device id; unset: none are asked for',
  }),
  mqttClientCert: setting({
    env: ['MQTT_CLIENT_CERT'],
    flag: 'mqtt-client-cert',
    schema: Type.Enum(['optional', 'required', 'with-password']),
    default: 'optional',
    help: 'With MQTT_CLIENT_CA: optional: a certificate or a password; required: a certificate, on every port; with-password: a certificate and the password',
  }),
  mqttClientCertUri: setting({
    env: ['MQTT_CLIENT_CERT_URI'],
    flag: 'mqtt-client-cert-uri',
    schema: Type.String({
      pattern: '^[^{}]{0,200}\\{id\\}[^{}]{0,200}$',
      description: 'text with {id} in it and no other brace, at most 200 characters on each side',
    }),
    default: '{id}',
    help: 'Form of the URI in a client certificate that holds the device id, for example urn:device:{id}',
  }),
  proxyProtocolFrom: setting({
    env: ['PROXY_PROTOCOL_FROM'],
    flag: 'proxy-protocol-from',
    schema: text,
    default: undefined,
    help: 'Addresses of load balancers, comma-separated, as 10.0.0.0/8,::1: every MQTT connection from them must begin with a PROXY protocol header (v1 or v2) and is closed without one; from other addresses none is read',
  }),
  acl: setting({
    env: ['ACL'],
    flag: 'acl',
    schema: Type.Enum(['confined', 'open']),
    default: 'confined',
    help: 'confined: publish raw.<id>, raw/<id>, raw/<id>/#, subscribe cmd/<id>/#; open: every device may publish and subscribe anywhere, as in the old service',
  }),
} as const;
