/** Most names of one certificate that are looked at. */
const maxNames = 8;
/** No device id is longer. */
const maxNameLength = 128;
/** One alternative name as Node.js writes it: a value with a comma, a quote or a control character is a JSON string. */
const alternativeName = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;

/**
 * The device ids that a client certificate is made out to: common names of its subject, then those in the URIs of its
 * alternative names.
 *
 * @param commonName as `getPeerCertificate().subject.CN`: an array when there are several.
 * @param alternativeNames as `getPeerCertificate().subjectaltname`.
 * @param uriForm the form of such a URI, `{id}` standing for the id: `urn:device:{id}`.
 * @see https://nodejs.org/docs/latest-v20.x/api/tls.html#certificate-object
 */
export function readCertificateNames(
  commonName: string | readonly string[] | undefined,
  alternativeNames: string | undefined,
  uriForm: string,
): string[] {
  const [before = '', after = ''] = uriForm.split('{id}');
  const commonNames = typeof commonName === 'string' ? [commonName] : (commonName ?? []);
  const uris = readUris(alternativeNames ?? '')
    .filter((uri) => uri.length > before.length + after.length)
    .filter((uri) => uri.startsWith(before) && uri.endsWith(after))
    .map((uri) => uri.slice(before.length, uri.length - after.length));
  return [...new Set([...commonNames, ...uris])]
    .filter((name) => name !== '' && name.length <= maxNameLength)
    .slice(0, maxNames);
}

/** The URIs of a list of alternative names; none of a list that is not as expected. */
function readUris(list: string): string[] {
  const uris: string[] = [];
  alternativeName.lastIndex = 0;
  while (alternativeName.lastIndex < list.length) {
    const match = alternativeName.exec(list);
    if (match === null) return [];
    const [, kind, value = ''] = match;
    if (kind === 'URI') uris.push(value.startsWith('"') ? (JSON.parse(value) as string) : value);
  }
  return uris;
}
