import { setFlagsFromString } from 'node:v8';
import { describe, expect, it } from 'vitest';
import { withFastGetters } from '../../src/server/fast-getters.js';
import { openSlots } from '../../src/server/forward/lanes/slots.js';

setFlagsFromString('--allow-natives-syntax');
const isFast = new Function('object', 'return %HasFastProperties(object)') as (object: object) => boolean;
setFlagsFromString('--no-allow-natives-syntax');

/** What V8 learns of an object it learns when it is read again and again. */
function readOften(object: { readonly count: number }): void {
  for (let times = 0; times < 1_000; times += 1) expect(object.count).toBe(0);
}

function isFastThroughout(object: object): boolean {
  return isFast(object) && isFast(Object.getPrototypeOf(object) as object);
}

describe('an object with getters', () => {
  it('is no dictionary when it is read for each message', () => {
    const literal = {
      get count() {
        return 0;
      },
    };
    expect(isFast(literal)).toBe(false);
    const fast = withFastGetters(literal);
    readOften(fast);
    expect(isFastThroughout(fast)).toBe(true);
    const slots = openSlots();
    readOften(slots);
    expect(isFastThroughout(slots)).toBe(true);
  });
});
