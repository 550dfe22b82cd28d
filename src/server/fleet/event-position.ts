/** Up to which event of each replica one has come. */
export type Position = Map<string, number>;

/** More replicas than there are in a fleet: those that have ended are among them. */
const maxReplicas = 64;
const entry = /^(\w{1,16})\.(\d{1,15})$/;

/** As the id of an event: `<replica>.<number>`, of several replicas with commas between them. */
export function encodePosition(position: Position): string {
  let text = '';
  for (const [replica, number] of position) text += `${text === '' ? '' : ','}${replica}.${number}`;
  return text;
}

/** What is not understood is left out. */
export function readPosition(text: string | undefined): Position {
  const position: Position = new Map();
  for (const part of (text ?? '').split(',', maxReplicas)) {
    const [, replica, number] = entry.exec(part) ?? [];
    if (replica !== undefined) position.set(replica, Number(number));
  }
  return position;
}
