// The container's health check: asks the API of this container for the path given (default /healthz) and exits 0
// when it answers 200, 1 otherwise. It finds the port as the service does, from LISTEN_ADDR.
const path = process.argv[2] ?? '/healthz';
const address = process.env.LISTEN_ADDR || ':9091';
const colon = address.lastIndexOf(':');
const given = colon <= 0 ? '' : address.slice(0, colon);
const everyAddress = ['', '0.0.0.0', '::', '[::]'].includes(given);
const host = everyAddress
  ? '127.0.0.1'
  : given.includes(':') && !given.startsWith('[')
    ? `[${given}]`
    : given;

try {
  const response = await fetch(`http://${host}:${address.slice(colon + 1)}${path}`, {
    signal: AbortSignal.timeout(4_000),
    redirect: 'manual',
  });
  if (response.status !== 200)
    fail(`${path} answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
} catch (error) {
  fail(`${path} did not answer: ${error?.cause?.message ?? error?.message ?? error}`);
}

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exitCode = 1;
}
