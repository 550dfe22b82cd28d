import { hash, randomBytes, timingSafeEqual } from 'node:crypto';

/** 80 bits, which is 16 characters of base32. */
const idBytes = 10;
/** 160 bits, which is 32 characters of base32. */
const secretBytes = 20;
const saltBytes = 16;

/** The text of a key or claim, which has its id and its secret behind a prefix; and what could be a device's secret. */
const keyText = /(svcmqtt(?:claim)?_[a-z2-7]{16}_)[a-z2-7]+/gi;
const deviceSecretText = /(?<![A-Za-z0-9])[a-z2-7]{32}(?![A-Za-z0-9])/g;

/** What is shorter holds none of them. */
const shortestSecret = 'svcmqtt_'.length + 16 + '_'.length + 1;

/** Text with the secrets in it taken out, for a place where one can get by mistake. */
export function maskSecrets(text: string): string {
  if (text.length < shortestSecret) return text;
  return text.replace(keyText, '$1[secret]').replace(deviceSecretText, '[secret]');
}

/** Refuses the text of a key or claim where something is to be kept and shown. */
export function checkHoldsNoKey(text: string): string | undefined {
  return text.search(keyText) < 0 ? undefined : 'must not hold the text of a key or claim, which is a secret';
}

/** A new device id: 16 characters of base32. */
export function generateId(): string {
  return base32(randomBytes(idBytes));
}

/** A new secret for a device, with what is stored of it. */
export function generateSecret(id: string): { id: string; secret: string; hash: Buffer; salt: Buffer } {
  const secret = base32(randomBytes(secretBytes));
  const salt = newSalt();
  return { id, secret, hash: hashSecret(salt, Buffer.from(secret, 'utf8')), salt };
}

/** A new salt. */
export function newSalt(): Buffer {
  return randomBytes(saltBytes);
}

/**
 * SHA-256 of salt and secret. Secrets are random, of at least 128 bits: nothing can be guessed, so a slow hash
 * would only make a fleet's reconnect expensive. The conversion of the old table computes the same in SQL.
 */
export function hashSecret(salt: Uint8Array, secret: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([salt, secret]), 'buffer');
}

/** Compares a secret with the salted hash of one, in constant time. */
export function matchesHash(secret: Uint8Array, expected: Buffer, salt: Buffer): boolean {
  const hash = hashSecret(salt, secret);
  return hash.length === expected.length && timingSafeEqual(hash, expected);
}

/** Base32 of RFC 4648, section 6, in lower case, of a whole number of 40-bit groups, so without padding. */
function base32(bytes: Uint8Array): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet.charAt((value >>> bits) & 31);
    }
    value &= 0xff;
  }
  return text;
}
