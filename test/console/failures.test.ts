import { setTimeout as delay } from 'node:timers/promises';
import type { Browser, Page, Route } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { addDevice, connected, type Gateway, startGateway } from '../faults/gateway.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { launchBrowser, noBrowser, openPage } from './browser.js';

/** The console behind a network and proxies that fail. */

const onFinished = undoAfterAll();
let gateway: Gateway;
let browser: Browser;
let base: string;

/** What a proxy answers that asks for a log-in of its own. */
const foreign = (route: Route) =>
  route.fulfill({ status: 200, contentType: 'text/html', body: '<html>Log in</html>' });

/** A refusal in the form of the API. */
const refuse = (route: Route, status: number, problem: object) =>
  route.fulfill({ status, contentType: 'application/problem+json', body: JSON.stringify(problem) });

describe.skipIf(noBrowser !== undefined)('the console in Chromium, of an API that fails', () => {
  beforeAll(async () => {
    gateway = await startGateway(onFinished);
    base = `http://127.0.0.1:${gateway.server.httpPort}`;
    browser = await launchBrowser();
    onFinished(() => browser.close());
  });

  /** Opens a page of the console, once routes are set. */
  async function open(place: string, prepare: (page: Page) => Promise<unknown> = async () => {}) {
    const watched = await openPage(browser);
    onFinished(() => watched.page.context().close());
    await prepare(watched.page);
    await watched.page.goto(`${base}/console/${place}`);
    return watched;
  }

  async function add(device: {
    id: string;
    type?: string;
    metadata?: object;
    expires_at?: string;
  }): Promise<void> {
    const answer = await fetch(`${base}/devices`, {
      method: 'POST',
      body: JSON.stringify({ type: 'sensor', ...device }),
    });
    expect(answer.ok).toBe(true);
  }

  test('says that an answer cannot be read, and asks again', async () => {
    let broken = true;
    const { page, complaints } = await open('#/devices', (opened) =>
      Promise.all([
        opened.route('**/fleet', (route) => (broken ? foreign(route) : route.continue())),
        opened.route('**/devices?*', (route) =>
          broken
            ? route.fulfill({ contentType: 'application/json', body: '{"devices":[{"id"' })
            : route.continue(),
        ),
      ]),
    );
    await page.getByRole('status').getByText('The answer could not be read').waitFor();
    await page.getByRole('alert').getByText('It is asked again').waitFor();
    broken = false;
    await page.getByText('There is no device yet').waitFor();
    expect(complaints).toEqual([]);
  });

  test('shows what a proxy says in a form that is nearly that of the API', async () => {
    const { page, complaints } = await open('#/devices', (opened) =>
      opened.route('**/devices?*', (route) =>
        refuse(route, 403, { title: 403, detail: 'Forbidden by the proxy', suggestion: null }),
      ),
    );
    await page.getByRole('alert').getByText('Forbidden by the proxy').waitFor();
    expect(complaints).toEqual([]);
  });

  test('says why it cannot find out who asks, and finds out when told to', async () => {
    let broken = true;
    const { page, complaints } = await open('', (opened) =>
      opened.route('**/me', (route) => (broken ? foreign(route) : route.continue())),
    );
    const alert = page.getByRole('alert');
    await alert.getByText('The answer could not be read').waitFor();
    expect(await alert.textContent()).not.toContain('asked again');
    broken = false;
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('takes a key again that was refused a moment ago', async () => {
    let refused = true;
    const { page } = await open('', (opened) =>
      opened.route('**/me', (route) =>
        refused ? refuse(route, 401, { detail: 'The key is not valid here' }) : route.continue(),
      ),
    );
    await page.getByLabel('API key').fill('svcmqtt_key');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').getByText('The key is not valid here').waitFor();
    // The header of a key that no server knows is refused: it is the answer of now that counts.
    refused = false;
    const asked = page.waitForRequest('**/me');
    await page.getByRole('button', { name: 'Log in' }).click();
    await asked;
  });

  test('goes on in a dialog after a time that is none and an answer that was cut off', async () => {
    const { page, complaints } = await open('#/devices');
    await page.getByRole('button', { name: 'Add a device' }).click();
    const dialog = page.getByRole('dialog', { name: 'Add a device' });
    await dialog.getByLabel('Type').fill('sensor');
    await dialog.getByLabel('Expires').evaluate((input: unknown) => {
      (input as { value: string }).value = '20266-01-01T10:00';
    });
    const submit = dialog.getByRole('button', { name: 'Add' });
    await submit.click();
    expect(await submit.isEnabled()).toBe(true);
    await dialog.getByLabel('Expires').fill('');
    await page.route('**/devices', (route) =>
      route.fulfill({ status: 201, contentType: 'application/json', body: '{"id":"x","mqtt_us' }),
    );
    await submit.click();
    const alert = dialog.getByRole('alert');
    await alert.getByText('The answer could not be read').waitFor();
    await alert.getByText('It may or may not have been done').waitFor();
    expect(await submit.isEnabled()).toBe(true);
    expect(complaints).toEqual([]);
  });

  test('does not say that a change is asked for again, and asks once', async () => {
    await add({ id: 'unsure', type: 'unsure' });
    const { page } = await open('#/devices/unsure');
    let asked = 0;
    await page.route('**/devices/unsure', (route) => {
      if (route.request().method() !== 'DELETE') return route.continue();
      asked += 1;
      return route.abort();
    });
    await page.getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    const alert = page.getByRole('dialog').getByRole('alert');
    await alert.getByText('It may or may not have been done: look, and try again').waitFor();
    expect(await alert.textContent()).not.toContain('asked again');
    expect(asked).toBe(1);
  });

  test('does not wait for ever for an answer, nor for a stream that has fallen silent', async () => {
    let streams = 0;
    const { page } = await open('#/events', async (opened) => {
      await opened.clock.install();
      await opened.route('**/fleet', () => {});
      await opened.route('**/events', () => {
        streams += 1;
      });
    });
    await expect.poll(() => streams).toBe(1);
    await page.getByRole('status').getByText('The server does not answer').waitFor();
    await page.clock.fastForward(60_000);
    await page.getByRole('alert').getByText('The server does not answer').waitFor();
    await page.clock.fastForward(60_000);
    await expect.poll(() => streams).toBeGreaterThan(1);
  });

  test('says why there are no events, and leaves out one that it cannot read', async () => {
    let broken = true;
    const event = (number: number, device: string) =>
      `id: ${number}\nevent: connected\ndata: ${JSON.stringify({ number, at: new Date().toISOString(), kind: 'connected', device })}\n\n`;
    const { page, complaints } = await open('#/events?kind=bogus', (opened) =>
      opened.route('**/events?*', (route) =>
        broken
          ? route.continue()
          : route.fulfill({
              contentType: 'text/event-stream',
              body: `${event(1, 'first')}event: connected\ndata: {"cut\n\n${event(2, 'second')}`,
            }),
      ),
    );
    await page.getByRole('alert').getByText('INPUT_INVALID').waitFor();
    broken = false;
    await page.getByLabel('Kind').selectOption('connected');
    await page.getByRole('cell', { name: 'second' }).waitFor();
    await page.getByRole('cell', { name: 'first' }).waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('keeps what is typed into a filter of a page that is drawn anew, and applies it once it is entered', async () => {
    await add({ id: 'typed-1', type: 'typed' });
    const { page } = await open('#/events');
    const field = page.getByLabel('Id of a device');
    await field.pressSequentially('typed', { delay: 500 });
    expect(await field.inputValue()).toBe('typed');
    await field.press('Enter');
    await expect.poll(() => page.url()).toContain('device=typed');

    await page.route('**/devices?*', async (route) => {
      await delay(1_000);
      return route.continue();
    });
    await page.getByRole('link', { name: 'Devices' }).click();
    const type = page.getByLabel('Type', { exact: true });
    await type.pressSequentially('typed', { delay: 300 });
    expect(await type.inputValue()).toBe('typed');
    await type.press('Enter');
    await page.getByRole('cell', { name: 'typed-1' }).waitFor();

    await page.route('**/audit?*', async (route) => {
      await delay(1_000);
      return route.continue();
    });
    await page.getByRole('link', { name: 'Audit' }).click();
    await page.getByLabel('Id of a device').pressSequentially('typed-1', { delay: 200 });
    await page.getByLabel('Id of a device').press('Enter');
    await expect.poll(() => page.url()).toContain('device=typed-1');
  });

  test('keeps a dialog until it is known what came of it', async () => {
    await add({ id: 'slow' });
    const { page, complaints } = await open('#/devices/slow');
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    await page.route('**/devices/slow', async (route) => {
      if (route.request().method() !== 'DELETE') return route.continue();
      await answered;
      return refuse(route, 503, { detail: 'The database is away' });
    });
    await page.getByRole('button', { name: 'Revoke' }).click();
    const dialog = page.getByRole('dialog', { name: 'Revoke slow?' });
    await dialog.getByRole('button', { name: 'Revoke' }).click();
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    expect(await dialog.getByRole('button', { name: 'Cancel' }).isDisabled()).toBe(true);
    answer();
    await dialog.getByRole('alert').getByText('The database is away').waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(complaints).toEqual([]);
  });

  test('does not put a secret away unseen with the key that made it, and shows each of two', async () => {
    const { page, complaints } = await open('#/devices', (opened) =>
      // As over plain HTTP from another machine.
      opened.addInitScript("Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })"),
    );
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const begin = async (id: string) => {
      await page.getByRole('button', { name: 'Add a device' }).click();
      const dialog = page.getByRole('dialog', { name: 'Add a device' });
      await dialog.getByLabel('Type').fill('sensor');
      await dialog.getByLabel('Id').fill(id);
      await dialog.getByLabel('Id').press('Enter');
    };
    await page.route('**/devices', async (route) => {
      if (route.request().method() !== 'POST') return route.continue();
      const held = (route.request().postData() ?? '').includes('made-1');
      if (held) await answered;
      return route.continue();
    });
    await begin('made-1');
    // The page is left meanwhile, and what was asked for comes all the same.
    await page.goto(`${base}/console/#/policies`);
    await page.goto(`${base}/console/#/devices`);
    await begin('made-2');
    const second = page.getByRole('dialog', { name: 'Device made-2 is added' });
    await second.waitFor();
    await page.keyboard.press('Enter');
    await delay(300);
    expect(await second.isVisible()).toBe(true);
    answer();
    await delay(1_000);
    expect(await second.isVisible()).toBe(true);
    await second.getByRole('button', { name: 'I have kept it' }).click();
    const first = page.getByRole('dialog', { name: 'Device made-1 is added' });
    await first.waitFor();
    await page.keyboard.press('Enter');
    await first.getByRole('button', { name: 'I have kept it' }).press('Enter');
    await first.waitFor({ state: 'detached' });
    expect(await page.locator(':focus').count()).toBe(1);
    expect(complaints).toEqual([]);
  });

  test('says why the next page of a list does not come, and shows nothing of another filter than that of now', async () => {
    let broken = true;
    const device = (id: string) => ({
      id,
      type: 'sensor',
      metadata: {},
      last_seen_at: null,
      revoked_at: null,
      expires_at: null,
    });
    const { page, complaints } = await open('#/devices', (opened) =>
      opened.route('**/devices?*', (route) => {
        const query = new URL(route.request().url()).searchParams;
        if (query.has('metadata')) return refuse(route, 400, { detail: 'It is no key=value' });
        if (!query.has('cursor'))
          return route.fulfill({ json: { devices: [device('a')], next_cursor: 'b' } });
        if (broken) return refuse(route, 503, { detail: 'The database is away' });
        return route.fulfill({ json: { devices: [device('b')], next_cursor: null } });
      }),
    );
    const more = page.getByRole('button', { name: 'Show more' });
    await more.click();
    await page.getByRole('alert').getByText('The database is away').waitFor();
    broken = false;
    await more.click();
    await page.getByRole('link', { name: 'b', exact: true }).waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    await page.getByLabel('Metadata').fill('graz');
    await page.getByLabel('Metadata').press('Enter');
    await page.getByRole('alert').getByText('It is no key=value').waitFor();
    expect(await page.getByRole('link', { name: 'a', exact: true }).count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('says that there are more connections and sessions of a device, and goes to the last page of connections', async () => {
    const device = await addDevice(gateway.server.httpPort);
    await connected(onFinished, gateway.server.mqttPort, device, { clientId: 'one-of-many' });
    const session = (client: string) => ({
      id: client,
      client,
      device: device.id,
      connected: true,
      away_since: null,
      pending: 0,
      oldest_pending_at: null,
      subscriptions: [],
      expires_at: null,
      problem: null,
    });
    const { page, complaints } = await open('#/connections?offset=50');
    await page.getByRole('cell', { name: 'one-of-many' }).waitFor();
    expect(page.url()).not.toContain('offset');

    await page.route('**/connections?*', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ json: { ...(await answer.json()), matching: 120 } });
    });
    await page.route('**/sessions?*', (route) => {
      const isFirst = !new URL(route.request().url()).searchParams.has('cursor');
      return route.fulfill({
        json: { sessions: [session(isFirst ? 'near' : 'far')], next_cursor: isFirst ? 'far' : null },
      });
    });
    await page.goto(`${base}/console/#/devices/${device.id}`);
    await page.getByText('1 of 120').waitFor();
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByRole('cell', { name: 'far', exact: true }).waitFor();
    await page.getByRole('cell', { name: 'near', exact: true }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('keeps the sessions that it shows while further ones do not come, and shows those once they do', async () => {
    await add({ id: 'many' });
    const session = (client: string) => ({
      id: client,
      client,
      device: 'many',
      connected: true,
      away_since: null,
      pending: 0,
      oldest_pending_at: null,
      subscriptions: [],
      expires_at: null,
      problem: null,
    });
    let broken = true;
    const { page, complaints } = await open('#/devices/many', (opened) =>
      opened.route('**/sessions?*', (route) => {
        const isFirst = !new URL(route.request().url()).searchParams.has('cursor');
        if (!isFirst && broken) return refuse(route, 503, { detail: 'NATS is away' });
        return route.fulfill({
          json: { sessions: [session(isFirst ? 'near' : 'far')], next_cursor: isFirst ? 'far' : null },
        });
      }),
    );
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByRole('alert').getByText('NATS is away').waitFor();
    expect(await page.getByRole('cell', { name: 'near', exact: true }).count()).toBe(1);
    broken = false;
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByRole('cell', { name: 'far', exact: true }).waitFor();
    expect(await page.getByRole('cell', { name: 'near', exact: true }).count()).toBe(1);
    expect(await page.getByRole('alert').count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('tells of a change that has failed wherever one has gone meanwhile', async () => {
    await add({ id: 'left' });
    const { page, complaints } = await open('#/devices/left');
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    await page.route('**/devices/left', async (route) => {
      if (route.request().method() !== 'DELETE') return route.continue();
      await answered;
      return refuse(route, 403, { detail: 'The key may not do that' });
    });
    await page.getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await page.goto(`${base}/console/#/policies`);
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    answer();
    const alert = page.getByRole('alert');
    await alert.getByText('Revoke left?').waitFor();
    await alert.getByText('The key may not do that').waitFor();
    await page.getByRole('link', { name: 'Claims' }).click();
    await page.getByRole('heading', { name: 'Claims' }).waitFor();
    await alert.getByText('The key may not do that').waitFor();
    await page.getByRole('button', { name: 'Put away' }).click();
    await alert.waitFor({ state: 'detached' });
    expect(complaints).toEqual([]);
  });

  test('keeps the further pages of a list when one that was left answers late', async () => {
    const claim = (id: string) => ({
      id,
      type: 'sensor',
      state: 'revoked',
      uses: 1,
      uses_left: 1,
      expires_at: new Date().toISOString(),
    });
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const { page, complaints } = await open('#/claims', (opened) =>
      opened.route('**/claims?*', async (route) => {
        const query = new URL(route.request().url()).searchParams;
        const state = query.get('state') ?? '';
        if (!query.has('cursor'))
          return route.fulfill({ json: { claims: [claim(`${state}-1`)], next_cursor: 'further' } });
        if (state === 'active') await answered;
        return route.fulfill({ json: { claims: [claim(`${state}-2`)], next_cursor: null } });
      }),
    );
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByLabel('State').selectOption('all states');
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByRole('cell', { name: 'all-2' }).waitFor();
    const late = page.waitForResponse(/state=active.*cursor/);
    answer();
    await (await late).finished();
    await delay(300);
    expect(await page.getByRole('cell', { name: 'all-2' }).count()).toBe(1);
    expect(complaints).toEqual([]);
  });

  test('changes of the metadata what was changed in it, and nothing that others have noted meanwhile', async () => {
    await add({ id: 'noted', metadata: { site: 'lyon', constructor: 'acme', padded: '  two ' } });
    const { page, complaints } = await open('#/devices/noted');
    await page.getByRole('button', { name: 'Change' }).click();
    const dialog = page.getByRole('dialog', { name: 'Change noted' });
    await dialog.getByLabel('Metadata').fill('site=graz\npadded=  two ');
    await fetch(`${base}/devices/noted`, {
      method: 'PATCH',
      body: JSON.stringify({ metadata: { rack: '7' } }),
    });
    // Until the page knows.
    await page.getByText('rack', { exact: true }).waitFor();
    await dialog.getByRole('button', { name: 'Change' }).click();
    await dialog.waitFor({ state: 'detached' });
    const { metadata } = (await (await fetch(`${base}/devices/noted`)).json()) as { metadata: object };
    expect(metadata).toEqual({ site: 'graz', padded: '  two ', rack: '7' });
    expect(complaints).toEqual([]);
  });

  test('sets no policy anew over that of a type that has one', async () => {
    const put = { method: 'PUT', body: JSON.stringify({ publish: ['raw/{id}/#'], publish_rate: 5 }) };
    await fetch(`${base}/policies/pump`, put);
    const { page, complaints } = await open('#/policies');
    await page.getByRole('button', { name: 'Set a policy' }).click();
    const dialog = page.getByRole('dialog', { name: 'Set a policy' });
    await dialog.getByLabel('Type of the devices').fill('pump');
    await dialog.getByRole('button', { name: 'Set' }).click();
    await dialog.getByRole('alert').getByText('The type has a policy already').waitFor();
    expect(await (await fetch(`${base}/policies/pump`)).json()).toMatchObject({ publish_rate: 5 });
    expect(complaints).toEqual([]);
  });

  test('goes by the clock of the server, has room for long names on a phone, and tells what it cannot do', async () => {
    const id = 'L'.repeat(128);
    await add({ id, type: 'W'.repeat(128) });
    const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
    await add({ id: 'expiring', type: 'clock', expires_at: inAnHour });
    const { page, complaints } = await open('#/devices?type=clock', (opened) =>
      Promise.all([
        opened.clock.install({ time: Date.now() + 7_200_000 }),
        opened.addInitScript(
          'navigator.clipboard.writeText = () => Promise.reject(new DOMException("no", "NotAllowedError"))',
        ),
      ]),
    );
    await page.getByRole('row', { name: 'expiring' }).getByText('active').waitFor();

    await page.setViewportSize({ width: 360, height: 740 });
    await page.goto(`${base}/console/#/devices/${id}`);
    for (const name of ['Send a command', 'Change', 'New secret', 'Revoke', 'Remove']) {
      await page.getByRole('button', { name, exact: true }).click();
      const tooWide = await page.getByRole('dialog').evaluate((dialog: unknown) => {
        const { scrollWidth, clientWidth } = dialog as { scrollWidth: number; clientWidth: number };
        return scrollWidth - clientWidth;
      });
      expect(tooWide, name).toBe(0);
      await page.keyboard.press('Escape');
    }
    await page.getByRole('button', { name: 'New secret' }).click();
    await page.getByRole('button', { name: 'Make a new secret' }).click();
    await page.getByRole('button', { name: 'Copy MQTT password' }).click();
    await page.getByRole('alert').getByText('does not let it be copied').waitFor();
    await page.getByRole('button', { name: 'I have kept it' }).click();

    await page.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove for good' }).click();
    await page.getByRole('alert').getByText('DEVICE_NOT_FOUND').waitFor();
    expect(await page.getByRole('main').getByRole('button').count()).toBe(0);

    await page.goto(`${base}/console/#/devices/..`);
    await page.getByRole('alert').getByText('No address can name ".."').waitFor();
    expect(complaints).toEqual([]);
  });
});
