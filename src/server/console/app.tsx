import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { MeJson } from '../../api/me.js';
import { type ApiError, asApiError } from './api-error.js';
import { AuditPage } from './audit.js';
import { ClaimsPage } from './claims.js';
import { ConnectionPage } from './connection.js';
import { ConnectionsPage } from './connections.js';
import { DevicePage } from './device.js';
import { DevicesPage } from './devices.js';
import { EventsPage } from './events.js';
import { FleetPage } from './fleet.js';
import { linkTo, usePlace } from './hooks.js';
import { KeysPage } from './keys.js';
import { LogIn } from './log-in.js';
import { PoliciesPage } from './policies.js';
import { SecretDialog } from './secret.js';
import { type Secret, type Session, SessionContext } from './session.js';
import { openSource } from './source.js';
import { StatsProvider, StatusLine } from './stats.js';
import { shown } from './text.js';
import { Button, Empty, ProblemBox } from './ui.js';

interface Page {
  readonly name: string;
  readonly title: string;
  /** The role that it takes to see it. */
  readonly role: MeJson['role'] | 'any';
  render(rest: readonly string[]): ComponentChildren;
}

const pages: readonly Page[] = [
  { name: '', title: 'Fleet', role: 'viewer', render: () => <FleetPage /> },
  {
    name: 'connections',
    title: 'Connections',
    role: 'viewer',
    render: ([id]) => (id === undefined ? <ConnectionsPage /> : <ConnectionPage key={id} id={id} />),
  },
  {
    name: 'devices',
    title: 'Devices',
    role: 'any',
    render: ([id]) => (id === undefined ? <DevicesPage /> : <DevicePage key={id} id={id} />),
  },
  { name: 'policies', title: 'Policies', role: 'viewer', render: () => <PoliciesPage /> },
  { name: 'claims', title: 'Claims', role: 'operator', render: () => <ClaimsPage /> },
  { name: 'keys', title: 'Keys', role: 'operator', render: () => <KeysPage /> },
  { name: 'audit', title: 'Audit', role: 'operator', render: () => <AuditPage /> },
  { name: 'events', title: 'Events', role: 'viewer', render: () => <EventsPage /> },
];

/** The console: log-in, then the pages. */
export function App() {
  /** The key in use, which is nowhere but here; undefined: none is asked for, as far as is known. A new one each time. */
  const [login, setLogin] = useState<{ readonly key?: string }>({});
  const [me, setMe] = useState<MeJson>();
  const [refusal, setRefusal] = useState<ApiError>();
  /** Those that are not put away yet; the first one is shown. */
  const [secrets, setSecrets] = useState<readonly Secret[]>([]);
  /** Of changes whose page was left meanwhile; the first one is shown. */
  const [failures, setFailures] = useState<readonly ApiError[]>([]);
  const current = useRef(login);
  current.current = login;
  const source = useMemo(
    () =>
      openSource(login.key, (error) => {
        // A late answer to the log-in before says nothing of this one.
        if (login !== current.current) return;
        setMe(undefined);
        setRefusal(error);
      }),
    [login],
  );

  useEffect(() => {
    let over = false;
    source.me().then(
      (who) => {
        if (over) return;
        setMe(who);
        setRefusal(undefined);
      },
      (error: unknown) => !over && setRefusal(asApiError(error)),
    );
    return () => {
      over = true;
    };
  }, [source]);

  const reveal = useCallback((made: Secret) => setSecrets((before) => [...before, made]), []);
  const tell = useCallback((error: ApiError) => setFailures((before) => [...before, error]), []);
  const logIn = useCallback((key: string) => setLogin({ key }), []);
  const session = useMemo(
    (): Session | undefined =>
      me && { source, me, may: (role) => me.may.includes(role), reveal, tell, logIn },
    [source, me, reveal, tell, logIn],
  );
  const [secret] = secrets;
  return (
    <>
      {session === undefined ? (
        <LogIn
          refusal={refusal}
          hasKey={login.key !== undefined}
          onKey={logIn}
          onAgain={() => setLogin({ ...login })}
        />
      ) : (
        <SessionContext.Provider value={session}>
          <StatsProvider key={`${session.me.kind} ${session.me.name}`}>
            <Shell
              session={session}
              failure={failures[0]}
              onPutAway={() => setFailures((before) => before.slice(1))}
              onLogOut={login.key === undefined ? undefined : () => location.reload()}
            />
          </StatsProvider>
        </SessionContext.Provider>
      )}
      {secret !== undefined && (
        <SecretDialog
          key={secret.fields.join()}
          secret={secret}
          onClose={() => setSecrets((before) => before.slice(1))}
        />
      )}
    </>
  );
}

function Shell(props: {
  session: Session;
  failure: ApiError | undefined;
  onPutAway(): void;
  onLogOut: (() => void) | undefined;
}) {
  const { session, failure, onPutAway, onLogOut } = props;
  const { me, may } = session;
  const [name = '', ...rest] = usePlace().path;
  const open = pages.filter(({ role }) => role === 'any' || may(role));
  const page = name === '' ? open[0] : open.find((each) => each.name === name);
  const title = page?.title ?? 'Not found';
  useEffect(() => {
    document.title = `${title} · svc-mqtt`;
  }, [title]);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById('main')?.focus()}>
        To the content
      </button>
      <header>
        <span class="brand">svc-mqtt</span>
        <nav aria-label="Pages">
          {open.map((each) => (
            <a key={each.name} href={linkTo([each.name])} aria-current={each === page ? 'page' : undefined}>
              {each.title}
            </a>
          ))}
          <a href="../docs/index.html">API</a>
        </nav>
        <div class="who">
          {me.kind === 'local' ? (
            <span>no key is asked for</span>
          ) : (
            <span>
              {shown(me.name)} <span class="role">{me.role}</span>
            </span>
          )}
          {onLogOut !== undefined && <Button text="Log out" onClick={onLogOut} />}
        </div>
      </header>
      <StatusLine />
      {failure !== undefined && (
        <div class="late">
          <ProblemBox error={failure} />
          <Button text="Put away" onClick={onPutAway} />
        </div>
      )}
      <main id="main" tabIndex={-1}>
        {page?.render(rest) ?? (
          <Empty title="There is no such page, or not for this key.">
            <p>
              <a href={linkTo([''])}>To the first page</a>
            </p>
          </Empty>
        )}
      </main>
    </>
  );
}
