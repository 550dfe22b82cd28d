import { boolean, count, setting, text, textOf } from './setting.js';

/** The HTTP API and who may use it. */
export const httpSettings = {
  listenAddr: setting({
    schema: textOf({ pattern: '^(.*:)?[0-9]{1,5}$', description: 'host:port or :port' }),
    default: ':9091',
    help: 'Address of the HTTP API, as host:port or :port; port 0: any free one',
  }),
  apiToken: setting({
    schema: textOf({
      minLength: 16,
      pattern: '^[\\x21-\\x7e]+$',
      description: 'at least 16 letters, digits and signs of ASCII, without spaces',
    }),
    secret: true,
    help: 'Bearer token of an operator at the HTTP API, at least 16 characters; unset and without API keys: only loopback addresses are answered',
  }),
  apiKey: setting({
    schema: text,
    secret: true,
    help: 'Key that commands show the HTTP API; unset: API_TOKEN, or the one that `svc-mqtt login` has remembered for the address',
  }),
  apiUrl: setting({
    flag: 'url',
    schema: text,
    help: 'Address of the HTTP API that commands ask, such as 10.0.0.7:9091 or https://…; not for `serve`',
  }),
  apiContext: setting({
    flag: 'context',
    schema: text,
    help: 'Name of a login that `svc-mqtt context` lists, for commands to use; local: none of them; not for `serve`',
  }),
  apiAllowUnauthenticated: setting({
    schema: boolean,
    default: false,
    help: 'Answer the HTTP API to every address without a token, as long as there are neither API_TOKEN nor API keys',
  }),
  apiHosts: setting({
    schema: textOf({ minLength: 1, maxLength: 4_096 }),
    help: 'Host names, comma-separated, by which the HTTP API may be called without a token or key, besides localhost and IP addresses',
  }),
  readyNeedsStorage: setting({
    schema: boolean,
    default: false,
    help: 'Whether /readyz answers 503 while nothing can be stored: the stream stores nothing, or failed a message for a reason that is its own, or those of two clients; one client that is stuck is not enough; false: it only says so, since a replica that is taken out does not store better, and its devices would lose their connections',
  }),
  apiRequestsPerSecond: setting({
    schema: count(1, 1_000_000),
    default: 500,
    help: 'Most requests a second of one API key or of API_TOKEN to one replica, and at once; over it 429 with Retry-After',
  }),
  httpTlsCert: setting({
    schema: text,
    help: 'File (PEM) with the certificate of the HTTP API and its chain; with HTTP_TLS_KEY the API speaks HTTPS only. Read again when it changes',
  }),
  httpTlsKey: setting({
    schema: text,
    help: 'File (PEM, without passphrase) with the private key of HTTP_TLS_CERT',
  }),
} as const;
