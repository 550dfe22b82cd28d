import { chmod, chown, lchown, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeOwnDirectory } from '../../src/data-directory.js';
import { distrustOf } from '../../src/file-trust.js';

const isRoot = process.getuid?.() === 0;
const stranger = 54_321;
let dir: string;

beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'svc-mqtt-trust-')));
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function make(name: string, mode: number): Promise<string> {
  const path = join(dir, name);
  await mkdir(path);
  await chmod(path, mode);
  return path;
}

describe('distrustOf', () => {
  it('has nothing against what only this user may change, there or not yet', async () => {
    const own = await make('own', 0o755);
    expect(distrustOf(own)).toBeUndefined();
    expect(distrustOf(join(own, 'a/b'))).toBeUndefined();
  });

  it.runIf(isRoot)('names what this user may not look at', async () => {
    const closed = await make('closed', 0o700);
    process.seteuid?.(stranger);
    try {
      expect(distrustOf(closed, { sharedParents: true })).toBe(`${closed} cannot be looked at (EACCES)`);
    } finally {
      process.seteuid?.(0);
    }
  });

  it('names the directory that everybody may write to, however far above', async () => {
    const open = await make('open', 0o777);
    await mkdir(join(open, 'a'), { mode: 0o700 });
    for (const options of [{}, { sharedParents: true }]) {
      expect(distrustOf(open, options)).toBe(`every user may write to ${open}`);
      expect(distrustOf(join(open, 'a'), options)).toBe(`every user may write to ${open}`);
    }
  });

  it('allows a sticky directory above, and not as the place itself', async () => {
    const sticky = await make('sticky', 0o1777);
    expect(distrustOf(join(sticky, 'mine'))).toBeUndefined();
    expect(distrustOf(sticky)).toBe(`every user may write to ${sticky}`);
  });

  it('looks where links lead', async () => {
    const open = await make('open', 0o777);
    await symlink('open', join(dir, 'link'));
    expect(distrustOf(join(dir, 'link'))).toBe(`every user may write to ${open}`);
    await symlink('circle', join(dir, 'circle'));
    expect(distrustOf(join(dir, 'circle', 'x'))).toBe(`${join(dir, 'circle')} is a link in a circle`);
  });

  it('takes a file as it takes a directory', async () => {
    await writeFile(join(dir, 'file'), '');
    await chmod(join(dir, 'file'), 0o777);
    expect(distrustOf(join(dir, 'file'))).toBe(`every user may write to ${join(dir, 'file')}`);
  });

  describe.runIf(isRoot)('as root', () => {
    it('does not trust what is another user’s', async () => {
      const theirs = await make('theirs', 0o755);
      await chown(theirs, stranger, stranger);
      expect(distrustOf(theirs)).toBe(`${theirs} belongs to another user`);
      expect(distrustOf(join(theirs, 'a'))).toBe(`${theirs} belongs to another user`);
      expect(distrustOf(theirs, { sharedParents: true })).toBe(`${theirs} belongs to another user`);
      expect(distrustOf(join(theirs, 'a'), { sharedParents: true })).toBeUndefined();
    });

    it('does not trust what another user was the first to put into a sticky directory, links included', async () => {
      const sticky = await make('sticky', 0o1777);
      await mkdir(join(sticky, 'x'));
      await chown(join(sticky, 'x'), stranger, stranger);
      await symlink(dir, join(sticky, 'l'));
      await lchown(join(sticky, 'l'), stranger, stranger);
      for (const name of ['x', 'l']) {
        const words = `${join(sticky, name)} belongs to another user`;
        expect(distrustOf(join(sticky, name, 'data'), { sharedParents: true })).toBe(words);
      }
    });

    it('trusts the group that has the number of the owner, and others where the operator chose the place', async () => {
      const shared = await make('shared', 0o770);
      expect(distrustOf(shared)).toBeUndefined();
      await chown(shared, 0, stranger);
      expect(distrustOf(shared)).toBe(`a group may write to ${shared}`);
      expect(distrustOf(shared, { sharedParents: true })).toBeUndefined();
    });
  });
});

describe('makeOwnDirectory', () => {
  it('makes a directory of this user, and refuses one that others may write to', async () => {
    makeOwnDirectory(join(dir, 'a/b'));
    expect(distrustOf(join(dir, 'a/b'))).toBeUndefined();
    const open = await make('open', 0o777);
    expect(() => makeOwnDirectory(join(open, 'a'))).toThrow(`every user may write to ${open}`);
  });
});
