import type { ReplicaJson } from '../../api/connection.js';
import type { FleetLink } from '../forward/fleet/fleet-link.js';
import type { Identity, Member, Members } from './members.js';

export interface Validator<T> {
  Check(value: unknown): value is T;
}

/** What a replica has answered, or why it has not. */
export type Told<T> =
  | { readonly ok: true; readonly answer: T }
  | { readonly ok: false; readonly detail: string; readonly absent: boolean };

/** What older replicas cannot be asked: that nobody listens there does not say that the replica has ended. */
const newerQuestions: ReadonlySet<string> = new Set(['command', 'ledger']);

/** Asks the other replicas, and notes who answers. */
export type Asking = ReturnType<typeof openAsking>;

export function openAsking(members: Members, link: FleetLink) {
  /** The other replicas, with one by one what is known of them. */
  function others(): readonly Member[] {
    if (link.open) members.refresh();
    return members.list();
  }

  /** Asks one and waits for it. */
  async function askNow<T>(
    replica: string,
    question: string,
    request: unknown,
    validator: Validator<T>,
  ): Promise<Told<T>> {
    const told = await link.ask(replica, question, request);
    if ('answer' in told) {
      if (validator.Check(told.answer)) {
        members.heard(replica);
        return { ok: true, answer: told.answer };
      }
      return { ok: false, detail: 'answered in a form that is not understood', absent: false };
    }
    const { failed, detail } = told;
    if (failed === 'absent') {
      if (!newerQuestions.has(question)) members.forget(replica);
    } else if (failed === 'silent') members.missed(replica, detail);
    else members.heard(replica);
    return { ok: false, detail, absent: failed === 'absent' || told.code === 404 };
  }

  /** Asks one of many: one that did not answer the last time is asked and not waited for. */
  async function ask<T>(
    { replica, missing }: Member,
    question: string,
    request: unknown,
    validator: Validator<T>,
  ): Promise<Told<T>> {
    const asked = askNow(replica, question, request, validator);
    return missing === undefined ? await asked : { ok: false, detail: missing, absent: false };
  }

  /** Asks all others: of each what it has answered, if it has, and how it is shown. */
  async function askAll<T>(question: string, request: unknown, validator: Validator<T>) {
    return await Promise.all(
      others().map(async (member) => {
        const told = await ask(member, question, request, validator);
        return { member, answer: told.ok ? told.answer : undefined, shown: show(member, told) };
      }),
    );
  }

  const present = ({ replica, host, version }: Identity): ReplicaJson => ({
    replica,
    host,
    version,
    ok: true,
    detail: null,
  });
  const away = (member: Member, detail: string): ReplicaJson => ({ ...present(member), ok: false, detail });
  /** One that is not there any more is no replica. */
  const show = (member: Member, told: Told<unknown>): ReplicaJson[] => {
    if (told.ok) return [present(member)];
    return told.absent ? [] : [away(member, told.detail)];
  };

  return {
    /** NATS answers. */
    get open() {
      return link.open;
    },
    members,
    others,
    ask,
    askAll,
    askNow,
    present,
    away,
    show,
  };
}
