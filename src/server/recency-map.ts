/** A Map with room for so many: at the limit the entry that was used longest ago makes room for a new one. */
export class RecencyMap<K, V> extends Map<K, V> {
  private readonly limit: number;
  /** Used last; used again it need not be moved. */
  private latest: K | undefined;

  constructor(limit: number) {
    super();
    this.limit = limit;
  }

  /** Answers and counts as use, which `get` does not, nor `set` of a key that is there. */
  use(key: K): V | undefined {
    const value = this.get(key);
    if (value === undefined || key === this.latest) return value;
    // A Map keeps the order of insertion.
    this.delete(key);
    this.set(key, value);
    return value;
  }

  override set(key: K, value: V): this {
    if (!this.has(key)) {
      if (this.size >= this.limit) this.delete(this.keys().next().value as K);
      this.latest = key;
    }
    return super.set(key, value);
  }
}
