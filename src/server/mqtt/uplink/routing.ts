import type { Policy } from '../admission/authorize.js';
import type { CloseReason } from '../protocol/close-reason.js';
import { isMqttText } from '../protocol/field.js';
import { checkTopic, checkTopicSize, type TopicLimits } from '../protocol/topics.js';
import { RecentRoutes } from './recent-routes.js';
import type { Addressing, Route, Rules } from './route.js';

const lineEnd = Buffer.from('\r\n');
/** Longer header lines are not remembered. */
const maxRememberedBytes = 4_096;

/** Where the messages of a connection go by the policy of now: topic → subject and headers, or why it may not. */
export class Routing {
  policy: Policy;
  addressing: Addressing;
  private readonly limits: TopicLimits;
  private readonly recent = new RecentRoutes();
  private last:
    | { readonly route: Route; readonly lines: Uint8Array; readonly headers: Uint8Array }
    | undefined;

  constructor(rules: Rules, limits: TopicLimits) {
    this.policy = rules.policy;
    this.addressing = rules.addressing;
    this.limits = limits;
  }

  /** The policy of the device has changed: every topic is held against the new one. */
  change({ policy, addressing }: Rules): void {
    this.policy = policy;
    this.addressing = addressing;
    this.recent.clear();
  }

  /** The topics used of late, for those who look at the connection. */
  get topics(): string[] {
    return this.recent.topics;
  }

  /** The route of the topic that stands in `packet` from `start` to `end`. */
  find(packet: Buffer, start: number, end: number, retain: boolean): Route | CloseReason {
    return this.recent.find(packet, start, end, retain) ?? this.make(packet.subarray(start, end), retain);
  }

  private make(topicBytes: Buffer, retain: boolean): Route | CloseReason {
    if (!isMqttText(topicBytes)) return 'invalid-utf8';
    const topic = topicBytes.toString('utf8');
    const problem = checkTopic(topic) ?? checkTopicSize(topic, this.limits);
    if (problem !== undefined) return problem;
    if (!this.policy.mayPublish(topic)) return 'publish-denied';
    const route = {
      topicBytes: Buffer.from(topicBytes),
      topic,
      retain,
      subject: Buffer.from(this.addressing.subjectOf(topic)),
      headers: this.addressing.headersOf(topic, retain),
      batchable: this.addressing.batchable,
      ackLevel: this.addressing.ackLevel,
    };
    this.recent.add(route);
    return route;
  }

  /** The headers of a message with properties; a client sends the same ones again and again. */
  headersOf(route: Route, lines: Uint8Array): Uint8Array {
    if (lines.length === 0) return route.headers;
    const { last } = this;
    if (last?.route === route && last.lines === lines) return last.headers;
    const headers = addLines(route.headers, lines);
    if (lines.length <= maxRememberedBytes) this.last = { route, lines, headers };
    return headers;
  }
}

/** Adds lines to a header block, in front of the blank line that ends it. */
export function addLines(block: Uint8Array, lines: Uint8Array): Uint8Array {
  return Buffer.concat([block.subarray(0, -lineEnd.length), lines, lineEnd]);
}
