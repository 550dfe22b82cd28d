/**
 * The name of a client's session in the fleet: `<device id>.<client id>`, two tokens that a key of a bucket may have. What
 * such a token cannot hold is `=` and two digits for each byte of its UTF-8.
 */
export function sessionKey(deviceId: string, clientId: string): string {
  return `${escapePart(deviceId)}.${escapePart(clientId)}`;
}

/** Whether a text from outside is the name of a session: nothing else may become a key, and so a part of a NATS subject. */
export function isSessionKey(text: string): boolean {
  const end = text.indexOf('.');
  return end > 0 && sessionKey(deviceOfKey(text), clientOfKey(text)) === text;
}

/** What the keys of a device's sessions, and of no other's, begin with. */
export function keyPrefix(deviceId: string): string {
  return `${escapePart(deviceId)}.`;
}

/** The device of a key. */
export function deviceOfKey(key: string): string {
  return unescapePart(key.slice(0, key.indexOf('.')));
}

/** The client id of a key. */
export function clientOfKey(key: string): string {
  return unescapePart(key.slice(key.indexOf('.') + 1));
}

const plain = /^[\w-]+$/;

function escapePart(text: string): string {
  if (plain.test(text)) return text;
  const bytes = Buffer.from(text).toString('latin1');
  const toEscape = (byte: string) => `=${byte.charCodeAt(0).toString(16).padStart(2, '0')}`;
  return bytes.replace(/[^\w-]/g, toEscape) || '=';
}

function unescapePart(token: string): string {
  if (!token.includes('=')) return token;
  if (token === '=') return '';
  const toByte = (_: string, hex: string) => String.fromCharCode(Number.parseInt(hex, 16));
  return Buffer.from(token.replace(/=(..)/g, toByte), 'latin1').toString('utf8');
}
