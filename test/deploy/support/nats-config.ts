/**
 * Checks that JetStream stores on the volume, or messages would end with the container. nats-server refuses to start
 * when the configuration and a flag both name the directory.
 */
export function checkStoreDirectory(config: string, args: readonly string[], volumePath: string): string[] {
  const written = config.replaceAll(/(^|\s)(#|\/\/).*$/gm, '');
  const store = /\bstore_dir\s*[:=]?\s*["']?([^"'\s}]+)/.exec(written)?.[1] ?? 'of the default';
  const problems: string[] = [];
  if (store !== volumePath && !store.startsWith(`${volumePath}/`)) {
    problems.push(`store_dir ${store} is not on the volume ${volumePath}`);
  }
  if (args.some((arg) => /^--?(sd|store_dir)\b/.test(arg))) {
    problems.push('store_dir is given as a flag as well');
  }
  return problems;
}
