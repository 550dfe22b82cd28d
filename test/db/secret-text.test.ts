import { expect, test } from 'vitest';
import { checkApiKeyName } from '../../src/db/api-keys.js';
import { checkDeviceId, checkMetadata, checkNewDeviceType } from '../../src/db/devices/device-fields.js';
import { generateId, generateSecret, maskSecrets } from '../../src/db/secrets.js';

const { secret } = generateSecret('any');
const id = generateId();

test.each([`svcmqtt_${id}_${secret}`, `svcmqttclaim_${id}_${secret}`])(
  'the text of a key or claim is kept nowhere, and shown nowhere: %#',
  (text) => {
    const inMetadata = (value: string) => checkMetadata({ note: value })?.problem;
    // A claim's text is longer than some names may be, which is reason enough.
    for (const check of [checkNewDeviceType, inMetadata, checkDeviceId, checkApiKeyName]) {
      expect(check(text), check.name).toMatch(/must not/);
      expect(check(text), check.name).not.toContain(secret);
    }
    expect(checkNewDeviceType(`pump ${text}`)).toMatch(/key or claim/);
    expect(maskSecrets(`a ${text}, b`)).not.toContain(secret);
  },
);

test('a secret of a device is taken out of text, and ids and words are not', () => {
  expect(maskSecrets(`raw/${secret}/x ${secret}`)).toBe('raw/[secret]/x [secret]');
  for (const text of [id, 'a-sensor', `x${secret}`, secret.slice(1), 'C0FFEE00C0FFEE00C0FFEE00C0FFEE00']) {
    expect(maskSecrets(text)).toBe(text);
  }
});
