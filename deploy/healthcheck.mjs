// The container's health check: asks the API of this container for the path given (default /healthz) and exits 0
// when it answers 200, 1 otherwise. It finds the port as the service does, from LISTEN_ADDR, and asks by HTTPS when
// HTTP_TLS_CERT is set. The certificate is not looked at: it names the service as others reach it.
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';

const path = process.argv[2] ?? '/healthz';
const withTls = (process.env.HTTP_TLS_CERT ?? '') !== '';
const address = process.env.LISTEN_ADDR || ':9091';
const colon = address.lastIndexOf(':');
const given = colon <= 0 ? '' : address.slice(0, colon).replace(/^\[|\]$/g, '');
const host = ['', '0.0.0.0', '::'].includes(given) ? '127.0.0.1' : given;

const request = (withTls ? requestHttps : requestHttp)(
  {
    host,
    port: address.slice(colon + 1),
    path,
    agent: false,
    rejectUnauthorized: false,
    signal: AbortSignal.timeout(4_000),
  },
  (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk) => {
      if (text.length < 500) text += chunk;
    });
    response.on('error', (error) => fail(`${path} did not answer: ${error.message}`));
    response.on('end', () => {
      if (response.statusCode !== 200) fail(`${path} answered ${response.statusCode}: ${text.slice(0, 500)}`);
    });
  },
);
request.on('error', (error) => fail(`${path} did not answer: ${error.message || error.code}`));
request.end();

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exitCode = 1;
}
