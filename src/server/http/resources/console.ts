import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../problem.js';
import type { TypedApp } from '../typed-app.js';

/** Where the build puts what the console consists of; the program has it at the same distance as its source. */
const builtDirectory = new URL('../../../../dist/server/console/', import.meta.url);

/**
 * What the page may load: files of this server, and no script or style that stands in a page. Text becomes script by no
 * way that a browser knows (Trusted Types).
 */
const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const icon =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b5cad"/><path d="M3 11a5 5 0 0 1 5-5M3 7a9 9 0 0 1 9-4M8 13l3-3 2 2" fill="none" stroke="#fff" stroke-width="1.6" stroke-linecap="round"/></svg>';

const page = (file: (name: string) => string) => `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>svc-mqtt</title>
<link rel="icon" href="${file('icon.svg')}">
<link rel="stylesheet" href="${file('style.css')}">
<script type="module" src="${file('main.js')}"></script>
</head>
<body>
<noscript>The console needs JavaScript. Without it: svc-mqtt top, or the API at ../docs/index.html.</noscript>
</body>
</html>
`;

const types: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml; charset=utf-8',
  txt: 'text/plain; charset=utf-8',
};

interface File {
  readonly type: string;
  readonly etag: string;
  readonly bytes: Buffer;
  readonly zipped: Buffer;
}

/**
 * Adds the console, a page at `/console/`; `/` and `/console` lead there. It is the same for everybody and holds no
 * secret: what it shows it asks the API for, under the API's own rules. Every address is relative, so that it holds
 * behind a proxy that puts a path before it.
 */
export function addConsoleRoutes(app: TypedApp): void {
  const options = { config: { access: 'documentation' }, schema: { hide: true } } as const;
  /** Read and compressed when the first browser comes. */
  let files: Promise<ReadonlyMap<string, File>> | undefined;

  const send = async (name: string, request: FastifyRequest, reply: FastifyReply) => {
    files ??= loadFiles();
    const file = (await files.catch(forget)).get(name);
    if (file === undefined) {
      const detail = `There is no file ${JSON.stringify(name)} of the console; /console/ has its page`;
      throw new ProblemError('ROUTE_NOT_FOUND', detail);
    }
    // The name of a file changes with what it holds, that of the page does not.
    const isPage = name === '';
    reply.header('cache-control', isPage ? 'no-cache' : 'public, max-age=31536000, immutable');
    if (isPage) reply.headers({ 'content-security-policy': pagePolicy, 'x-frame-options': 'DENY' });
    reply.headers({ etag: file.etag, vary: 'accept-encoding' }).type(file.type);
    if (request.headers['if-none-match'] === file.etag) return reply.code(304).send();
    const zips = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/.test(String(request.headers['accept-encoding']));
    if (zips) reply.header('content-encoding', 'gzip');
    return reply.send(zips ? file.zipped : file.bytes);
  };
  const forget = (error: unknown): never => {
    files = undefined;
    throw error;
  };

  app.get('/', options, async (_request, reply) => reply.redirect('console/'));
  app.get('/console', options, async (_request, reply) => reply.redirect('console/'));
  app.get('/console/', options, (request, reply) => send('', request, reply));
  app.get<{ Params: { file: string } }>('/console/:file', options, (request, reply) =>
    send(request.params.file, request, reply),
  );
}

/** What the console consists of, each file by the name that it is asked for by; the page has none. */
async function loadFiles(): Promise<ReadonlyMap<string, File>> {
  const read = (name: string) => readFile(new URL(name, builtDirectory));
  const contents = {
    'main.js': await read('main.js'),
    'style.css': await read('style.css'),
    'icon.svg': Buffer.from(icon),
  };
  const names = new Map(
    Object.entries(contents).map(([name, bytes]) => [name, name.replace('.', `-${digest(bytes)}.`)]),
  );
  const files = new Map<string, File>([
    ['', await toFile('html', Buffer.from(page((name) => names.get(name) ?? name)))],
    ['licences.txt', await toFile('txt', await read('licences.txt'))],
  ]);
  for (const [name, bytes] of Object.entries(contents))
    files.set(names.get(name) ?? name, await toFile(name.replace(/.*\./, ''), bytes));
  return files;
}

const compress = promisify(gzip);

async function toFile(extension: string, bytes: Buffer): Promise<File> {
  const zipped = await compress(bytes, { level: 9 });
  return { type: types[extension] ?? '', etag: `W/"${digest(bytes)}"`, bytes, zipped };
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}
