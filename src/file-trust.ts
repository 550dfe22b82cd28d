import { lstatSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { dirname, parse, resolve, sep } from 'node:path';

/** As many links as Linux follows in one path. */
const maxLinks = 40;

/**
 * Why a file or directory cannot be relied upon: somebody besides this user and root could put something else in its
 * place. Of a path that does not exist yet, the part that does is looked at.
 *
 * @param options.sharedParents what lies above may belong to other users and be written by groups, as where an operator
 * has chosen the place; nobody else may own the path itself.
 * @returns words for a message, such as "every user may write to /tmp/x"; undefined: nobody could, or the system has no
 * such owners and modes.
 */
export function distrustOf(path: string, options: { sharedParents?: boolean } = {}): string | undefined {
  const self = process.getuid?.();
  if (self === undefined) return undefined;
  // In a user namespace root's files belong to somebody without a number; whoever has `/` has the machine.
  const trusted = new Set([0, self, statSync('/').uid]);
  let linksLeft = maxLinks;

  function walk(whole: string, isLast: boolean): string | undefined {
    const { root } = parse(whole);
    let current = root;
    let sticky = false;
    const names = whole.slice(root.length).split(sep);
    for (const [index, name] of ['', ...names.filter((each) => each !== '')].entries()) {
      current = resolve(current, name);
      const last = isLast && index > 0 && current === whole;
      const found = lookAt(current);
      if (found === undefined) return undefined;
      if (typeof found === 'string') return found;
      const strict = last || options.sharedParents !== true;
      if ((strict || sticky) && !trusted.has(found.uid)) return `${current} belongs to another user`;
      if (found.isSymbolicLink()) {
        linksLeft -= 1;
        if (linksLeft < 0) return `${current} is a link in a circle`;
        const problem = walk(resolve(dirname(current), readlinkSync(current)), last);
        if (problem !== undefined) return problem;
        sticky = false;
        continue;
      }
      // In a sticky directory nobody can replace what is another's, but anybody can be there first.
      sticky = found.isDirectory() && (found.mode & 0o1000) !== 0;
      if (sticky && !last) continue;
      if ((found.mode & 0o002) !== 0) return `every user may write to ${current}`;
      // A group with the number of its user is that user's own.
      const ownGroup = found.gid === found.uid;
      if (options.sharedParents !== true && (found.mode & 0o020) !== 0 && !ownGroup) {
        return `a group may write to ${current}`;
      }
    }
    return undefined;
  }

  return walk(resolve(path), true);
}

/** What lies at a path; undefined: nothing. What this user may not even look at, others may have made. */
function lookAt(path: string): Stats | string | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? undefined : `${path} cannot be looked at (${code})`;
  }
}
