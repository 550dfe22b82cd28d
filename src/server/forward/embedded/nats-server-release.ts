import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { messageOf } from '../../../errors.js';

const programName = 'nats-server';
/** A machine without a way out must soon get to the next way to a nats-server. */
const answerTimeoutMs = 5_000;
const stallTimeoutMs = 15_000;
const progressMs = 2_000;
const maxSumsBytes = 65_536;
const maxArchiveBytes = 64 * 1_048_576;
const maxUnpackedBytes = 256 * 1_048_576;
const maxRedirects = 5;
const tarBlockBytes = 512;

/** Names in releases, by those of Node.js. A Node.js that is supported runs on ARMv7 and later. */
const systems: Readonly<Record<string, string>> = { linux: 'linux', darwin: 'darwin', freebsd: 'freebsd' };
const architectures: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm7',
  ia32: '386',
  s390x: 's390x',
};

/** Where nats-server's project publishes a version. */
export function releaseUrl(version: string): string {
  return `https://github.com/nats-io/nats-server/releases/download/v${version}`;
}

/** The archive of a version for this machine. @throws Error where no release has one. */
export function releaseArchive(version: string): string {
  const system = systems[process.platform];
  const architecture = architectures[process.arch];
  if (system === undefined || architecture === undefined)
    throw new Error(`no release has one for ${process.platform} on ${process.arch}`);
  return `${programName}-v${version}-${system}-${architecture}.tar.gz`;
}

/**
 * Downloads the official archive of a version, checks it against the SHA256SUMS beside it and puts the program into a
 * directory. Nothing is written before the sum is right.
 *
 * @param options.url the directory of both files: https, or http on this machine.
 * @returns the path of the program.
 * @throws Error saying what went wrong.
 */
export async function downloadRelease(options: {
  version: string;
  url: string;
  directory: string;
  onProgress(line: string): void;
  signal?: AbortSignal | undefined;
}): Promise<string> {
  const { version, directory, onProgress, signal } = options;
  const archiveName = releaseArchive(version);
  const base = options.url.replace(/\/+$/, '');
  const sums = await download(`${base}/SHA256SUMS`, maxSumsBytes, signal);
  const expected = findSum(sums.toString('utf8'), archiveName);
  onProgress(`downloading ${base}/${archiveName}`);
  const archive = await download(`${base}/${archiveName}`, maxArchiveBytes, signal, onProgress);
  const sum = createHash('sha256').update(archive).digest('hex');
  if (sum !== expected)
    throw new Error(`${archiveName} is not what SHA256SUMS says (${sum}, not ${expected}): it is not used`);
  const tar = await promisify(gunzip)(archive, { maxOutputLength: maxUnpackedBytes });
  const path = join(directory, programName);
  await writeFile(path, findInTar(tar, programName), { mode: 0o755, flag: 'wx' });
  return path;
}

/** The sum of a file, from lines of a sum, two blanks (or a blank and `*`) and a name. */
function findSum(sums: string, name: string): string {
  for (const line of sums.split('\n')) {
    const [sum = '', file] = line.trim().split(/\s+\*?/);
    if (file === name && /^[0-9a-f]{64}$/i.test(sum)) return sum.toLowerCase();
  }
  throw new Error(`SHA256SUMS has no line for ${name}`);
}

/** The contents of a file in a tar archive, in whatever directory of it. */
function findInTar(tar: Buffer, name: string): Buffer {
  const text = (start: number, length: number) => {
    const field = tar.toString('latin1', start, start + length);
    return field.includes('\0') ? field.slice(0, field.indexOf('\0')) : field;
  };
  for (let at = 0; at + tarBlockBytes <= tar.length; ) {
    const size = Number.parseInt(text(at + 124, 12), 8) || 0;
    const isFile = ['', '0'].includes(text(at + 156, 1));
    const start = at + tarBlockBytes;
    if (isFile && text(at, 100).split('/').at(-1) === name) {
      if (start + size > tar.length) break;
      return tar.subarray(start, start + size);
    }
    at = start + Math.ceil(size / tarBlockBytes) * tarBlockBytes;
  }
  throw new Error(`the archive holds no ${name}`);
}

/** Reads what a URL answers; ends when nothing comes for a while, so that no way out is noticed and a slow one is used. */
async function download(
  url: string,
  maxBytes: number,
  outer: AbortSignal | undefined,
  onProgress?: (line: string) => void,
): Promise<Buffer> {
  const stalled = new AbortController();
  const signal = outer === undefined ? stalled.signal : AbortSignal.any([outer, stalled.signal]);
  const stall = (timeMs: number) =>
    setTimeout(() => stalled.abort(new Error(`nothing came from ${url} for ${timeMs / 1_000} s`)), timeMs);
  let timer = stall(answerTimeoutMs);
  try {
    const response = await request(url, signal);
    if (!response.ok || response.body === null) throw new Error(`${url} answers ${response.status}`);
    const totalBytes = Number(response.headers.get('content-length') ?? 0);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    let toldMs = performance.now();
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      timer = stall(stallTimeoutMs);
      bytes += chunk.length;
      if (bytes > maxBytes) throw new Error(`${url} is over ${maxBytes} bytes`);
      chunks.push(chunk);
      if (onProgress !== undefined && performance.now() - toldMs > progressMs) {
        toldMs = performance.now();
        onProgress(`${megabytes(bytes)}${totalBytes > 0 ? ` of ${megabytes(totalBytes)}` : ''} MB`);
      }
    }
    return Buffer.concat(chunks);
  } catch (error) {
    // fetch says no more than "fetch failed"; why is its cause.
    const { cause } = error as { cause?: unknown };
    throw cause === undefined ? error : new Error(`${url}: ${messageOf(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** Follows redirects by hand: none of them may leave TLS, since the sums are as trusted as the way they came. */
async function request(url: string, signal: AbortSignal): Promise<Response> {
  let at = url;
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const response = await fetch(at, { redirect: 'manual', signal });
    const location = response.headers.get('location');
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel();
    const next = new URL(location, at);
    if (next.protocol !== 'https:' && new URL(at).protocol === 'https:')
      throw new Error(`${at} leads to ${next.protocol}//${next.host}, which is not protected by TLS`);
    at = next.href;
  }
  throw new Error(`${url} redirects without end`);
}

function megabytes(bytes: number): string {
  return (bytes / 1_048_576).toFixed(1);
}
