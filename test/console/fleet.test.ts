import type { Browser } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  addDevice,
  connected,
  type Gateway,
  publishAndWait,
  startGateway,
  startReplica,
} from '../faults/gateway.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { expectAccessible, launchBrowser, noBrowser, openPage } from './browser.js';

/** The console over two replicas, of which one stops to answer. */

const onFinished = undoAfterAll();
let gateway: Gateway;
let other: ServerProcess;
let browser: Browser;

describe.skipIf(noBrowser !== undefined)('the console of two replicas', () => {
  beforeAll(async () => {
    gateway = await startGateway(onFinished);
    other = await startReplica(onFinished, gateway);
    browser = await launchBrowser();
    onFinished(() => browser.close());
  });

  const idOf = async (server: ServerProcess): Promise<string> =>
    (
      (await (await fetch(`http://127.0.0.1:${server.httpPort}/stats`)).json()) as {
        replica: string;
      }
    ).replica;

  test('shows all, each and together, finds and kicks on the other one, and tells who does not answer', async () => {
    const [here, there] = await Promise.all([idOf(gateway.server), idOf(other)]);
    const [one, two] = [await addDevice(gateway.server.httpPort), await addDevice(gateway.server.httpPort)];
    await connected(onFinished, gateway.server.mqttPort, one, { clientId: 'near' });
    const far = await connected(onFinished, other.mqttPort, two, { clientId: 'far' });
    await publishAndWait(far, two, 'hello');

    const { page, complaints, origins } = await openPage(browser);
    const base = `http://127.0.0.1:${gateway.server.httpPort}`;
    await page.goto(`${base}/`);
    const main = page.getByRole('main');
    const tile = (name: string) => main.locator('.tile', { hasText: name }).getByRole('definition');
    await main.getByText('2 of 2 replicas answer').waitFor();
    await expect.poll(() => tile('Connections').textContent()).toMatch(/^2 /);
    const replicas = main.getByRole('table', { name: 'Replicas' });
    for (const id of [here, there]) {
      await replicas.getByRole('row', { name: id }).getByText('answers').waitFor();
      await replicas.getByRole('img', { name: `Messages in of ${id}, the last minute` }).waitFor();
    }
    await main.getByRole('table', { name: 'Events' }).getByRole('cell', { name: there }).first().waitFor();
    await expectAccessible(page, 'the fleet');
    await page.setViewportSize({ width: 360, height: 740 });
    const width = () =>
      page.locator('html').evaluate((html: unknown) => (html as { scrollWidth: number }).scrollWidth);
    await expect.poll(width).toBe(360);
    await replicas.getByRole('cell', { name: 'answers' }).first().waitFor();
    await page.setViewportSize({ width: 1280, height: 900 });

    await replicas.getByRole('link', { name: there }).press('Enter');
    await expect.poll(() => tile('Connections').textContent()).toMatch(/^1 /);
    await main.getByText('running since').waitFor();
    await main.getByRole('combobox', { name: 'Replica' }).selectOption('all replicas');
    await main.getByText('2 of 2 replicas answer').waitFor();

    await page.getByRole('navigation').getByRole('link', { name: 'Connections' }).click();
    await page.getByRole('cell', { name: 'near' }).waitFor();
    await main.getByRole('combobox', { name: 'Replica' }).selectOption({ value: there });
    await page.getByRole('cell', { name: 'near' }).waitFor({ state: 'detached' });
    await page.getByRole('link', { name: two.id }).click();
    await page.getByRole('button', { name: 'Kick' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Kick' }).click();
    await far.waitClosed();
    await page.getByText('This connection has ended').waitFor();

    await page.getByRole('navigation').getByRole('link', { name: 'Events' }).click();
    await main.getByRole('combobox', { name: 'Replica' }).selectOption({ value: there });
    const events = main.getByRole('table', { name: 'Events' });
    await events.getByRole('row', { name: two.id }).getByText('disconnected').waitFor();
    expect(await events.getByRole('row', { name: one.id }).count()).toBe(0);

    process.kill(other.pid, 'SIGSTOP');
    try {
      await page.getByRole('status').getByText(`Replica ${there} on `).waitFor();
      await page.getByRole('navigation').getByRole('link', { name: 'Fleet' }).click();
      await replicas.getByRole('row', { name: there }).getByText('away: ').waitFor();
      await main.getByText('1 of 2 replicas answer').waitFor();
      await expectAccessible(page, 'a replica that is away');
    } finally {
      process.kill(other.pid, 'SIGCONT');
    }
    await main.getByText('2 of 2 replicas answer').waitFor();
    expect(complaints).toEqual([]);
    expect([...origins]).toEqual([base]);
  });
});
