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
  let token = '';
  for (const byte of Buffer.from(text)) {
    const character = String.fromCharCode(byte);
    token += plain.test(character) ? character : `=${byte.toString(16).padStart(2, '0')}`;
  }
  return token === '' ? '=' : token;
}

function unescapePart(token: string): string {
  if (!token.includes('=')) return token;
  if (token === '=') return '';
  const bytes: number[] = [];
  for (let at = 0; at < token.length; at += 1) {
    if (token[at] === '=') {
      bytes.push(Number.parseInt(token.slice(at + 1, at + 3), 16));
      at += 2;
    } else {
      bytes.push(token.charCodeAt(at));
    }
  }
  return Buffer.from(bytes).toString('utf8');
}
