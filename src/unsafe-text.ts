/**
 * What must not reach a terminal as it is: control characters, which can drive it; marks that turn the direction
 * of text; line separators; and lone surrogates, which have no encoding.
 */
const unsafe =
  /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu;

/** The text with another in place of each character that is unsafe on a terminal. */
export function replaceUnsafe(text: string, replace: (character: string) => string): string {
  return text.replace(unsafe, replace);
}

/** A character as `\u001b`. */
export function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
