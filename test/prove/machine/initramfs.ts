import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A file of the archive; a directory without contents. */
export interface ArchiveFile {
  /** Without a leading slash; its directories come before it. */
  readonly path: string;
  readonly contents?: Buffer | string;
}

/** An archive as the Linux kernel unpacks it before it mounts anything (cpio, "newc"), everything executable. */
export function makeArchive(files: readonly ArchiveFile[]): Buffer {
  const parts: Buffer[] = [];
  const add = (path: string, mode: number, contents: Buffer, inode: number): void => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, name.length, 0];
    const head = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    parts.push(pad(Buffer.concat([Buffer.from(head), name])), pad(contents));
  };
  files.forEach(({ path, contents }, index) => {
    if (contents === undefined) add(path, 0o040755, Buffer.alloc(0), index + 1);
    else add(path, 0o100755, Buffer.from(contents as string), index + 1);
  });
  add('TRAILER!!!', 0, Buffer.alloc(0), 0);
  return Buffer.concat(parts);
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** A program, at `path` in the archive, and the libraries that it is linked to, where it looks for them. */
export function packProgram(program: string, path: string): ArchiveFile[] {
  return [{ path, contents: readFileSync(program) }, ...librariesOf(program)];
}

function librariesOf(program: string): ArchiveFile[] {
  let listed = '';
  try {
    listed = execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    // It is linked to none.
  }
  const paths = [...listed.matchAll(/(?:=> |^\s+)(\/\S+) \(/gm)].map(([, found = '']) => found);
  return paths.map((found) => ({ path: found.slice(1), contents: readFileSync(found) }));
}

/** Each directory once, before what lies in it; each file once. */
export function withDirectories(files: readonly ArchiveFile[]): ArchiveFile[] {
  const all = new Map<string, ArchiveFile>();
  for (const file of files) {
    const names = file.path.split('/');
    for (let depth = 1; depth < names.length; depth += 1) {
      const path = names.slice(0, depth).join('/');
      if (!all.has(path)) all.set(path, { path });
    }
    all.set(file.path, file);
  }
  return [...all.values()];
}
