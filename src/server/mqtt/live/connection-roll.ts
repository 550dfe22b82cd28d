/** The connections of a replica. */
export class ConnectionRoll<C extends { readonly id: string }> implements Iterable<C> {
  /** Called with each that is let in. */
  onConnected: (connection: C) => void = () => {};
  private readonly byId = new Map<string, C>();
  /** How many were let in and are there. */
  connected = 0;
  /** How many of those that were let in have ended since the start. */
  endedCount = 0;

  get size(): number {
    return this.byId.size;
  }

  [Symbol.iterator](): Iterator<C> {
    return this.byId.values();
  }

  find(id: string): C | undefined {
    return this.byId.get(id);
  }

  add(connection: C): void {
    this.byId.set(connection.id, connection);
  }

  letIn(connection: C): void {
    this.connected += 1;
    this.onConnected(connection);
  }

  /** @param wasConnected it had been let in. */
  remove(connection: C, wasConnected: boolean): void {
    if (!this.byId.delete(connection.id) || !wasConnected) return;
    this.connected -= 1;
    this.endedCount += 1;
  }
}
