import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import jsQR from 'jsqr';
import mqtt from 'mqtt';
import type { Browser } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { addDevice, connected, type Gateway, publishAndWait, startGateway } from '../faults/gateway.js';
import { subscribePacket } from '../support/raw-packets.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { expectAccessible, launchBrowser, noBrowser, openPage } from './browser.js';

const built = (name: string) => readFileSync(new URL(`../../dist/server/console/${name}`, import.meta.url));

test('what a browser loads is under 150 KB compressed, in all', () => {
  const sizes = ['main.js', 'style.css'].map((name) => gzipSync(built(name)).length);
  expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(150_000);
});

test('the licences of what is bundled are with it', () => {
  const text = built('licences.txt').toString();
  for (const name of ['lean-qr', 'preact', 'uplot']) expect(text).toContain(`${name}\n\n`);
});

/** Reads the path of a QR code, of squares of 1, as a camera does. */
function readQrCode(svg: string): string {
  const squares = [...svg.matchAll(/M(\d+) (\d+)h1v1h-1z/g)].map(([, x, y]) => [
    Number(x) + 4,
    Number(y) + 4,
  ]);
  const modules = Math.max(...squares.flat()) + 5;
  const scale = 4;
  const side = modules * scale;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (const [x = 0, y = 0] of squares)
    for (let row = 0; row < scale; row += 1)
      for (let column = 0; column < scale; column += 1)
        pixels.fill(
          0,
          ((y * scale + row) * side + x * scale + column) * 4,
          ((y * scale + row) * side + x * scale + column) * 4 + 3,
        );
  return jsQR.default(pixels, side, side)?.data ?? '';
}

const onFinished = undoAfterAll();
let gateway: Gateway;
let browser: Browser;
let base: string;
/** Keys by role, made by the first test that needs them: from then on the API asks for one. */
const keys: Record<string, string> = {};

/** Asks the API, as the operator once there is one. */
async function ask<T>(method: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(`${base}${path}`, {
    method,
    headers: keys.operator === undefined ? {} : { authorization: `Bearer ${keys.operator}` },
    body: body === undefined ? null : JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

async function needKeys(): Promise<void> {
  for (const role of ['operator', 'viewer', 'enroller'])
    keys[role] ??= (await ask<{ key: string }>('POST', '/api-keys', { name: `the-${role}`, role })).key;
}

describe.skipIf(noBrowser !== undefined)('the console in Chromium', () => {
  beforeAll(async () => {
    gateway = await startGateway(onFinished);
    base = `http://127.0.0.1:${gateway.server.httpPort}`;
    browser = await launchBrowser();
    onFinished(() => browser.close());
  });

  /** Opens the console, and logs in where a key is given. */
  async function open(role?: string, options: Parameters<typeof openPage>[1] = {}) {
    const watched = await openPage(browser, options);
    onFinished(() => watched.page.context().close());
    await watched.page.goto(`${base}/`);
    if (role !== undefined) {
      await watched.page.locator('input[name=key]:focus').waitFor();
      await watched.page.keyboard.type(keys[role] ?? '');
      await watched.page.keyboard.press('Enter');
    }
    return watched;
  }

  test('asks for no key where the API asks for none, and shows a device that connects and publishes', async () => {
    const { page, complaints, origins } = await open();
    await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor();
    expect(new URL(page.url()).pathname).toBe('/console/');
    await page.getByText('No device has connected yet').waitFor();
    const device = await addDevice(gateway.server.httpPort);
    const client = await connected(onFinished, gateway.server.mqttPort, device, { clientId: 'roof<b>7' });
    await publishAndWait(client, device, 'hello');
    await page.getByRole('cell', { name: device.id }).waitFor();
    await page.getByRole('link', { name: 'Connections' }).click();
    await page.getByRole('searchbox').fill('roof');
    await page.getByRole('cell', { name: 'roof<b>7' }).waitFor();
    await page.getByRole('link', { name: device.id }).click();
    await page.getByText(`raw/${device.id}`).waitFor();
    await page.getByText('QoS 0: 0, 1: 1, 2: 0').waitFor();

    await page.getByRole('button', { name: 'Kick' }).click();
    const dialog = page.getByRole('dialog', { name: `Kick roof<b>7 of ${device.id}?` });
    await dialog.getByRole('button', { name: 'Kick' }).click();
    await client.waitClosed();
    await page.getByText('This connection has ended').waitFor();
    expect(complaints).toEqual([]);
    expect([...origins]).toEqual([base]);
  });

  test('makes the first key, and goes on with it', async () => {
    const { page, complaints } = await open();
    await page.getByRole('link', { name: 'Keys' }).click();
    await page.getByText('There is no key').waitFor();
    await page.getByRole('button', { name: 'Make a key' }).click();
    await page.getByLabel('Name').fill('the-operator');
    await page.getByRole('button', { name: 'Make', exact: true }).click();
    const shown = page.getByRole('dialog', { name: 'The key the-operator, of role operator' });
    keys.operator = (await shown.locator('.secret code').textContent()) ?? '';
    await expect.poll(async () => (await fetch(`${base}/stats`)).status).toBe(401);
    await shown.getByRole('button', { name: 'I have kept it' }).click();
    await page.getByRole('cell', { name: 'the-operator', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('API key').waitFor();
    expect(complaints).toEqual([]);
  });

  test('takes a key that the API knows, keeps it nowhere, and says why it does not take another', async () => {
    await needKeys();
    const { page, complaints } = await open();
    await page.getByLabel('API key').fill('svcmqtt_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').getByText('The key or token is not valid here').waitFor();
    await page.getByLabel('API key').fill(keys.viewer ?? '');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor();
    await page.getByText('the-viewer').waitFor();
    expect(await page.context().storageState()).toEqual({ cookies: [], origins: [] });
    expect(page.url()).not.toContain('svcmqtt_');
    await page.reload();
    await page.getByLabel('API key').waitFor();
    expect(complaints).toEqual([]);
  });

  test('adds a device, whose secret is shown once, also to a camera; sees it connect; rotates and revokes it', async () => {
    await needKeys();
    const { page, complaints, origins } = await open('operator');
    await page.getByRole('link', { name: 'Devices' }).click();
    await page.getByRole('button', { name: 'Add a device' }).click();
    const form = page.getByRole('dialog', { name: 'Add a device' });
    await form.getByLabel('Type').fill('sensor');
    await form.getByLabel('Id').fill('-no');
    await form.getByRole('button', { name: 'Add' }).click();
    await form.getByRole('alert').getByText('must not begin with a hyphen').waitFor();
    await form.getByLabel('Id').fill('roof-7');
    await form.getByLabel('Metadata').fill('note=<img src=x onerror=alert(1)>\nsite=lyon');
    await form.getByRole('button', { name: 'Add' }).click();
    const shown = page.getByRole('dialog', { name: 'Device roof-7 is added' });
    const password = (await shown.locator('.secret code').nth(1).textContent()) ?? '';
    expect(JSON.parse(readQrCode(await shown.locator('svg').innerHTML()))).toEqual({
      mqtt_user: 'roof-7',
      mqtt_password: password,
    });
    // Nothing but its button puts it away.
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    await shown.getByRole('button', { name: 'I have kept it' }).click();
    expect(await page.content()).not.toContain(password);

    await page.getByLabel('Id, or how it begins').fill('roof');
    await page.getByRole('link', { name: 'roof-7' }).click();
    await page.getByText('<img src=x onerror=alert(1)>').waitFor();
    const device = { id: 'roof-7', password };
    const client = await connected(onFinished, gateway.server.mqttPort, device, { clientId: 'console' });
    await publishAndWait(client, device, 'hello');
    await page.getByRole('link', { name: 'console', exact: true }).waitFor();

    await page.getByRole('button', { name: 'Follow' }).click();
    let packetId = 10;
    await expect
      .poll(async () => {
        packetId += 1;
        await publishAndWait(client, device, 'as it <b>passes', packetId);
        return await page.getByRole('cell', { name: 'as it <b>passes' }).count();
      })
      .toBeGreaterThan(0);

    await page.getByText('It has no session that outlives its connection').waitFor();
    const sleeping = await connected(onFinished, gateway.server.mqttPort, device, {
      clientId: 'sleeper',
      clean: false,
    });
    sleeping.send(subscribePacket(1, [['cmd/roof-7/#', 1]]));
    await sleeping.next();
    sleeping.destroy();
    await expect
      .poll(async () => (await ask<{ matching: number }>('GET', '/connections?q=sleeper')).matching)
      .toBe(0);
    await ask('POST', '/devices/roof-7/commands', { topic: 'fan', payload: 'on' });
    await page.getByRole('row', { name: 'sleeper' }).getByRole('cell', { name: / ago$/ }).waitFor();
    await page.getByRole('button', { name: 'End the session of sleeper' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'End' }).click();
    await page.getByText('It has no session that outlives its connection').waitFor();
    await page.getByRole('link', { name: 'Who changed what' }).click();
    await page.getByRole('row', { name: 'session.end' }).getByRole('link', { name: 'roof-7' }).click();

    await page.getByRole('button', { name: 'New secret' }).click();
    await page.getByLabel('The secret until now').selectOption('ends at once');
    await page.getByRole('button', { name: 'Make a new secret' }).click();
    const renewed = page.getByRole('dialog', { name: 'The new secret of roof-7' });
    const second = (await renewed.locator('.secret code').nth(1).textContent()) ?? '';
    await renewed.getByRole('button', { name: 'I have kept it' }).click();
    await client.waitClosed();
    const again = await connected(onFinished, gateway.server.mqttPort, { id: 'roof-7', password: second });

    await page.getByRole('button', { name: 'Change' }).click();
    await page.getByRole('dialog').getByLabel('Metadata').fill('site=graz');
    await page.getByRole('dialog').getByRole('button', { name: 'Change' }).click();
    await page.getByText('graz').waitFor();
    expect((await ask<{ metadata: object }>('GET', '/devices/roof-7')).metadata).toEqual({ site: 'graz' });

    await page.getByRole('button', { name: 'Revoke' }).click();
    const question = page.getByRole('dialog', { name: 'Revoke roof-7?' });
    await question.getByLabel('Reason').fill('stolen from the roof');
    await question.getByRole('button', { name: 'Revoke' }).click();
    await again.waitClosed();
    await page.getByRole('main').getByText('revoked', { exact: true }).first().waitFor();
    const { entries } = await ask<{ entries: { action: string; details: object }[] }>(
      'GET',
      '/audit?device=roof-7',
    );
    expect(entries.find(({ action }) => action === 'device.revoke')?.details).toEqual({
      reason: 'stolen from the roof',
    });
    await page.getByRole('button', { name: 'Enable' }).click();
    await page
      .getByRole('dialog', { name: 'Enable roof-7?' })
      .getByRole('button', { name: 'Enable' })
      .click();
    // The buttons move once it is known.
    await page.getByRole('button', { name: 'Revoke' }).waitFor();
    await page.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove for good' }).click();
    await page.getByRole('alert').getByText('DEVICE_NOT_FOUND').waitFor();
    expect(complaints).toEqual([]);
    expect([...origins]).toEqual([base]);
  });

  test('sends a command that waits for the device, asks it, and says why it cannot', async () => {
    await needKeys();
    const { id, mqtt_password: password } = await ask<{ id: string; mqtt_password: string }>(
      'POST',
      '/devices',
      {
        type: 'fan',
      },
    );
    const { page, complaints } = await open('operator');
    await page.goto(`${base}/console/#/devices/${id}`);
    await page.getByRole('button', { name: 'Send a command' }).press('Enter');
    const dialog = page.getByRole('dialog', { name: `Send a command to ${id}` });
    await expectAccessible(page, 'a command');
    await dialog.getByLabel('Topic').fill('fan/speed');
    await dialog.getByLabel('How').selectOption('ask, and show the answer');
    await dialog.getByRole('button', { name: 'Ask' }).click();
    await dialog.getByRole('alert').getByText('DEVICE_UNAVAILABLE').waitFor();

    const connect = async (
      clean: boolean,
      clientId: string,
      onMessage: mqtt.OnMessageCallback = () => {},
    ) => {
      const client = mqtt.connect({
        host: '127.0.0.1',
        port: gateway.server.mqttPort,
        username: id,
        password,
        clientId,
        protocolVersion: 5,
        clean,
        properties: { sessionExpiryInterval: clean ? 0 : 3_600 },
      });
      // What waits for it comes right behind CONNACK.
      client.on('message', onMessage);
      await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject));
      return client;
    };
    const sleeper = await connect(false, 'sleeper');
    await sleeper.subscribeAsync(`cmd/${id}/#`, { qos: 1 });
    await sleeper.endAsync();

    await dialog.getByLabel('How').selectOption('keep it until the device has it');
    await dialog.getByLabel('Payload').fill('900');
    await dialog.getByLabel('Expires after').fill('soon');
    await dialog.getByRole('button', { name: 'Send' }).click();
    await dialog.getByRole('alert').getByText('"soon" is no time').waitFor();
    await dialog.getByLabel('Expires after').fill('1h');
    await dialog.getByRole('button', { name: 'Send' }).click();
    await dialog.getByRole('status').getByText(`on cmd/${id}/fan/speed`).waitFor();
    await dialog.getByRole('status').getByText('waits for the device').waitFor();
    await dialog.getByLabel('Payload').fill('');
    const bytes = Buffer.from([0, 255, 7]);
    await dialog.getByLabel('Or a file').setInputFiles({ name: 'a.bin', mimeType: '', buffer: bytes });
    await dialog.getByRole('button', { name: 'Send' }).click();
    await dialog.getByRole('status').getByText('Stored as').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('row', { name: 'sleeper' }).getByRole('cell', { name: '2', exact: true }).waitFor();

    const got: Buffer[] = [];
    const device = await connect(false, 'sleeper', (topic, payload, { properties }) => {
      if (topic.endsWith('/call/level'))
        device.publish(properties?.responseTopic ?? '', '<b>80 %</b>', {
          properties: { correlationData: properties?.correlationData ?? Buffer.alloc(0) },
        });
      else got.push(payload);
    });
    onFinished(() => device.endAsync(true));
    await expect.poll(() => got).toEqual([Buffer.from('900'), bytes]);
    const latest = page.getByRole('table', { name: 'Latest commands' });
    await expect.poll(() => latest.getByText('acknowledged', { exact: true }).count()).toBe(2);
    await expectAccessible(page, 'a device with commands');
    await page.getByRole('button', { name: 'Send a command' }).click();
    await dialog.getByLabel('Topic').fill('level');
    await dialog.getByLabel('How').selectOption('ask, and show the answer');
    await dialog.getByRole('button', { name: 'Ask' }).click();
    await dialog.getByRole('status').getByText('<b>80 %</b>').waitFor();
    await expectAccessible(page, 'an answer');
    await dialog.getByLabel('How').selectOption('ask for its acknowledgement');
    await dialog.getByLabel('Topic').fill('off');
    await dialog.getByRole('button', { name: 'Ask' }).click();
    await dialog.getByText('The device has acknowledged it').waitFor();
    await dialog.getByRole('button', { name: 'Close' }).click();
    const { entries } = await ask<{ entries: { action: string }[] }>('GET', `/audit?device=${id}`);
    expect(entries.filter(({ action }) => action === 'device.command')).toHaveLength(4);
    expect(complaints).toEqual([]);
  });

  test('sets a policy, makes a claim, shows who did it, and what happens as it happens', async () => {
    await needKeys();
    const { page, complaints } = await open('operator');
    await page.getByRole('link', { name: 'Policies' }).click();
    await page.getByRole('button', { name: 'Set a policy' }).click();
    const form = page.getByRole('dialog', { name: 'Set a policy' });
    await form.getByLabel('Type of the devices').fill('meter');
    await form.getByLabel('They publish to').fill('raw/{id}/#\nbad/#/topic');
    await form.getByLabel('Messages a second').fill('20');
    await form.getByRole('button', { name: 'Set' }).click();
    await form.getByRole('alert').getByText('INPUT_INVALID').waitFor();
    await form.getByLabel('They publish to').fill('raw/{id}/#');
    await form.getByRole('button', { name: 'Set' }).click();
    const policy = page.getByRole('region', { name: 'Policy of meter' });
    await policy.getByText('raw/{id}/#').waitFor();
    const stored = await ask<object>('GET', '/policies/meter');
    expect(stored).toMatchObject({
      publish: ['raw/{id}/#'],
      publish_rate: 20,
      ack_level: null,
      receipts: null,
    });
    await policy.getByRole('button', { name: 'Remove meter' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByText('No type has a policy of its own').waitFor();

    await page.getByRole('link', { name: 'Claims' }).click();
    await page.getByRole('button', { name: 'Make a claim' }).click();
    await page.getByLabel('Type of the devices').fill('meter');
    await page.getByRole('button', { name: 'Make', exact: true }).click();
    const shown = page.getByRole('dialog', { name: 'A claim for 1 of type meter' });
    const claim = await shown.locator('.secret code').textContent();
    expect(readQrCode(await shown.locator('svg').innerHTML())).toBe(claim);
    await shown.getByRole('button', { name: 'I have kept it' }).click();
    await page.getByRole('button', { name: 'Revoke claim' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await page.getByText('No claim is active').waitFor();

    await page.getByRole('link', { name: 'Audit' }).click();
    for (const action of ['policy.set', 'policy.remove', 'claim.create', 'claim.revoke', 'api-key.create'])
      await page.getByRole('cell', { name: action }).first().waitFor();
    await page.getByRole('cell', { name: 'api-key the-operator' }).first().waitFor();

    await page.getByRole('link', { name: 'Events' }).click();
    await page.getByLabel('Kind').selectOption('disconnected');
    const device = await ask<{ id: string; mqtt_password: string }>('POST', '/devices', { type: 'sensor' });
    const credentials = { id: device.id, password: device.mqtt_password };
    (await connected(onFinished, gateway.server.mqttPort, credentials)).destroy();
    await page.getByRole('row', { name: device.id }).getByText('disconnected').waitFor();

    await page.getByRole('link', { name: 'Keys' }).click();
    await page.getByRole('button', { name: 'Revoke the-operator' }).click();
    await page.getByText('the one that you are logged in with').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    expect(complaints).toEqual([]);
  });

  test('offers an enroller what it may: to add devices, and to look at those', async () => {
    await needKeys();
    const { page } = await open('enroller');
    await page.getByRole('button', { name: 'Add a device' }).click();
    await page.getByRole('dialog').getByLabel('Type').fill('sensor');
    await page.getByRole('dialog').getByLabel('Id').fill('own-1');
    await page.getByRole('dialog').getByRole('button', { name: 'Add' }).click();
    await page.getByRole('button', { name: 'I have kept it' }).click();
    await page.getByLabel('Id of a device that this key has added').fill('own-1');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByText('none since it was made').waitFor();
    expect(await page.getByRole('navigation').getByRole('link').allTextContents()).toEqual([
      'Devices',
      'API',
    ]);
    expect(await page.getByRole('main').getByRole('button').count()).toBe(0);
  });

  test('offers a viewer nothing that it may not do', async () => {
    await needKeys();
    const device = await ask<{ id: string; mqtt_password: string }>('POST', '/devices', { type: 'sensor' });
    await connected(onFinished, gateway.server.mqttPort, { id: device.id, password: device.mqtt_password });
    const { page } = await open('viewer');
    await page.getByRole('link', { name: 'Connections' }).click();
    await page.getByRole('link', { name: device.id }).click();
    await page.getByText('keep alive').waitFor();
    expect(await page.getByRole('main').getByRole('button').count()).toBe(0);
    await page.getByRole('link', { name: 'Devices' }).click();
    await page.getByRole('link', { name: device.id }).click();
    await page.getByText('secret in use').waitFor();
    expect(await page.getByRole('main').getByRole('button').count()).toBe(0);
    await ask('PUT', '/policies/valve', { publish_rate: 5 });
    await page.getByRole('link', { name: 'Policies' }).click();
    await page.getByText('messages a second').waitFor();
    expect(await page.getByRole('main').getByRole('button').count()).toBe(0);
    const links = await page.getByRole('navigation').getByRole('link').allTextContents();
    expect(links).toEqual(['Fleet', 'Connections', 'Devices', 'Policies', 'Events', 'API']);
    await page.goto(`${base}/console/#/keys`);
    await page.getByText('There is no such page, or not for this key').waitFor();
  });

  test.each(['light', 'dark'] as const)('axe finds no violation in it, %s', async (colorScheme) => {
    await needKeys();
    const device = await ask<{ id: string; mqtt_password: string }>('POST', '/devices', { type: 'sensor' });
    const credentials = { id: device.id, password: device.mqtt_password };
    await connected(onFinished, gateway.server.mqttPort, credentials, { clientId: 'axe' });
    const { page, complaints } = await open(undefined, { colorScheme });
    await page.getByLabel('API key').waitFor();
    await expectAccessible(page, 'log-in');
    await page.getByLabel('API key').fill(keys.operator ?? '');
    await page.getByRole('button', { name: 'Log in' }).click();
    for (const name of ['Fleet', 'Connections', 'Devices', 'Policies', 'Claims', 'Keys', 'Audit', 'Events']) {
      await page.getByRole('navigation').getByRole('link', { name }).click();
      await page.getByRole('heading', { name, level: 1 }).waitFor();
      await page.waitForLoadState('networkidle');
      await expectAccessible(page, name);
      await page.setViewportSize({ width: 360, height: 740 });
      const width = () =>
        page.locator('html').evaluate((html: unknown) => (html as { scrollWidth: number }).scrollWidth);
      await expect.poll(width, { message: name }).toBe(360);
      await page.setViewportSize({ width: 1280, height: 900 });
    }
    await page.goto(`${base}/console/#/devices/${device.id}`);
    await page.getByRole('link', { name: 'axe' }).waitFor();
    await page.getByRole('button', { name: 'Follow' }).click();
    await page.getByText('None has passed yet').waitFor();
    await expectAccessible(page, 'a device');
    await page.getByRole('link', { name: 'axe' }).click();
    await page.getByText('keep alive').waitFor();
    await expectAccessible(page, 'a connection');
    for (const [name, button] of [
      ['Devices', 'Add a device'],
      ['Policies', 'Set a policy'],
      ['Claims', 'Make a claim'],
      ['Keys', 'Make a key'],
    ] as const) {
      await page.getByRole('navigation').getByRole('link', { name }).click();
      await page.getByRole('button', { name: button }).press('Enter');
      await expectAccessible(page, button);
      await page.keyboard.press('Escape');
      expect(await page.locator(':focus').textContent()).toBe(button);
    }
    expect(complaints).toEqual([]);
  });
});
