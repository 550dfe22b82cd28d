import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

const program = ['chromium', 'chromium-browser', 'google-chrome']
  .flatMap((name) => (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, name)))
  .find((file) => existsSync(file));

/** Why there is no browser to test with; undefined: there is one, or there has to be. */
export const noBrowser =
  program === undefined && process.env.CI === undefined ? 'Chromium is not installed' : undefined;

export function launchBrowser(): Promise<Browser> {
  if (program === undefined) throw new Error('Chromium is not installed, and CI is set');
  // A container's user is root, for whom its sandbox does not work.
  return chromium.launch({ executablePath: program, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

/** A page, with what went wrong in it and what it asked of whom. */
export interface WatchedPage {
  readonly page: Page;
  /** Lines of the console, errors that nobody caught and violations of the policy. */
  readonly complaints: string[];
  /** Origins of all requests. */
  readonly origins: Set<string>;
}

export async function openPage(browser: Browser, options: BrowserContextOptions = {}): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  const origins = new Set<string>();
  page.on('console', (message) => {
    // A refusal of the API is part of what is tested.
    if (!/Failed to load resource/.test(message.text())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => origins.add(new URL(request.url()).origin));
  return { page, complaints, origins };
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Requires that axe finds nothing in the page as it is. */
export async function expectAccessible(page: Page, where: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  // By way of the debugger, which the page's policy does not bind.
  const evaluate = async (expression: string) => {
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
      allowUnsafeEvalBlockedByCSP: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  };
  await evaluate(`${axe};0`);
  const found = (await evaluate(
    'axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, ...nodes.map(({ html, failureSummary }) => [html, failureSummary])]))',
  )) as unknown[];
  await session.detach();
  expect(found, where).toEqual([]);
}
