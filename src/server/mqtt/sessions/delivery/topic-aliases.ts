import type { Delivery } from '../../protocol/codec.js';

/** Characters of the longest topic that has one: each is kept as long as the connection. */
const maxTopicLength = 1_024;
/** What an alias adds to a packet: below it the topic itself is shorter. */
const aliasBytes = 3;

/** The topic aliases of one connection, from server to client (MQTT 5.0 §3.3.2.3.4): the topics used latest have one. */
export class TopicAliases {
  private readonly maximum: number;
  /** The one used longest ago first. */
  private readonly numbers = new Map<string, number>();

  /** @param maximum how many there may be, at least 1. */
  constructor(maximum: number) {
    this.maximum = maximum;
  }

  /** The alias with which to send a topic; a new one is to be given when the packet is. */
  find(topic: string): Delivery['alias'] {
    if (topic.length <= aliasBytes || topic.length > maxTopicLength) return undefined;
    const { numbers } = this;
    const known = numbers.get(topic);
    if (known === undefined) {
      const isFull = numbers.size === this.maximum;
      const number = isFull ? (numbers.values().next().value as number) : numbers.size + 1;
      return { number, isNew: true };
    }
    numbers.delete(topic);
    numbers.set(topic, known);
    return { number: known, isNew: false };
  }

  /** The client has been told a new alias that was found for a topic. */
  give(topic: string, number: number): void {
    const { numbers } = this;
    if (numbers.size === this.maximum) numbers.delete(numbers.keys().next().value as string);
    numbers.set(topic, number);
  }
}
