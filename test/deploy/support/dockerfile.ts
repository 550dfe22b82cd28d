import { basename, join } from 'node:path';
import { type Copy, DockerfileParser, type From, type Instruction } from 'dockerfile-ast';
import { settings, splitListenAddr } from '../../../src/config.js';
import { isInRepository } from './files.js';

interface Stage {
  readonly name: string;
  readonly image: string;
  readonly instructions: readonly Instruction[];
}

/** The stages of a Dockerfile, in order. */
export function readStages(text: string): Stage[] {
  const stages: { name: string; image: string; instructions: Instruction[] }[] = [];
  for (const instruction of DockerfileParser.parse(text).getInstructions()) {
    if (instruction.getKeyword() === 'FROM') {
      const from = instruction as From;
      stages.push({ name: from.getBuildStage() ?? '', image: from.getImage() ?? '', instructions: [] });
    } else {
      stages.at(-1)?.instructions.push(instruction);
    }
  }
  return stages;
}

function argumentsOf(stage: Stage | undefined, keyword: string): string[][] {
  return (stage?.instructions ?? [])
    .filter((instruction) => instruction.getKeyword() === keyword)
    .map((instruction) => instruction.getArguments().map((argument) => argument.getValue()));
}

/** The last instruction of a kind, as its JSON array when it has that form. */
export function lastOf(stage: Stage | undefined, keyword: string): string[] | undefined {
  const found = (stage?.instructions ?? []).filter((each) => each.getKeyword() === keyword).at(-1);
  if (found === undefined) return undefined;
  const text = found.getArgumentsContent() ?? '';
  return text.startsWith('[') ? (JSON.parse(text) as string[]) : argumentsOf(stage, keyword).at(-1);
}

/** The variables that the image sets. */
export function imageEnvironment(stages: readonly Stage[]): Record<string, string> {
  return Object.fromEntries(
    argumentsOf(stages.at(-1), 'ENV')
      .flat()
      .map((pair): [string, string] => [pair.split('=')[0] ?? '', pair.slice(pair.indexOf('=') + 1)]),
  );
}

/**
 * Checks the final stage: who runs, what is run, and what it tells about itself.
 *
 * @param start how `npm start` does it.
 */
export function checkFinalStage(stages: readonly Stage[], start: string): string[] {
  const last = stages.at(-1);
  const user = lastOf(last, 'USER')?.[0] ?? '';
  const exposed = argumentsOf(last, 'EXPOSE').flat().map(Number);
  const ports = [settings.mqttPort.default, splitListenAddr(settings.listenAddr.default).port];
  const labels = argumentsOf(last, 'LABEL').flat();
  const healthcheck = argumentsOf(last, 'HEALTHCHECK').at(-1) ?? [];
  const rules: [boolean, string][] = [
    [/^[1-9]\d*(:[1-9]\d*)?$/.test(user), `user "${user}" is not the number of somebody other than root`],
    [healthcheck[0] === 'CMD', 'it has no health check'],
    [
      ports.every((port) => exposed.includes(port)) && exposed.length === ports.length,
      'it exposes other ports than the defaults',
    ],
    [
      lastOf(last, 'ENTRYPOINT')?.join(' ') ===
        start.replace(/^exec (.*) dist\/(.*) serve$/, '$1 /app/dist/$2'),
      'it does not start the program as npm start does',
    ],
    [lastOf(last, 'CMD')?.join(' ') === 'serve', 'it does not serve'],
    [lastOf(last, 'STOPSIGNAL')?.[0] === 'SIGTERM', 'it is not stopped by SIGTERM'],
    ...['title', 'description', 'licenses', 'version', 'revision'].map((name): [boolean, string] => [
      labels.some((label) => label.startsWith(`org.opencontainers.image.${name}=`)),
      `it has no label ${name}`,
    ]),
  ];
  return rules.filter(([kept]) => !kept).map(([, problem]) => problem);
}

/** Checks that every stage has what it copies, and that nothing but what the program needs is installed. */
export function checkCopies(stages: readonly Stage[], ignoreText: string, context = '.'): string[] {
  return stages.flatMap((stage, index) =>
    stage.instructions
      .filter((instruction) => instruction.getKeyword() === 'COPY')
      .flatMap((instruction) => {
        const from = (instruction as Copy).getFromFlag()?.getValue();
        const sources = instruction
          .getArguments()
          .map((argument) => argument.getValue())
          .slice(0, -1);
        if (from === undefined || from === null)
          return sources.flatMap((path) => checkContext(join(context, path), ignoreText));
        const source = stages.slice(0, index).find(({ name }) => name === from);
        if (source === undefined) return [`stage ${from} does not come before it is copied from`];
        return sources
          .filter((path) => !producesPath(source, path))
          .map((path) => `stage ${from} does not make ${path}`);
      }),
  );
}

function checkContext(path: string, ignoreText: string): string[] {
  if (!isInRepository(path)) return [`${path} does not exist`];
  return isIgnored(path, ignoreText) ? [`${path} is left out by .dockerignore`] : [];
}

/** The commands that make a directory of a stage. */
const makers: Record<string, RegExp> = { node_modules: /\bnpm ci\b/, dist: /\bnpm run build\b/ };

function producesPath(stage: Stage, path: string): boolean {
  const workdir = lastOf(stage, 'WORKDIR')?.[0] ?? '/';
  const name = path.slice(workdir.length + 1);
  const maker = makers[name];
  return (
    path.startsWith(`${workdir}/`) &&
    (copiedNames(stage).includes(name) || argumentsOf(stage, 'RUN').some((run) => maker?.test(run.join(' '))))
  );
}

/** What a stage copies from the repository, by the name that it has there. */
function copiedNames(stage: Stage): string[] {
  return stage.instructions
    .filter((instruction) => instruction.getKeyword() === 'COPY')
    .filter((instruction) => !(instruction as Copy).getFromFlag())
    .flatMap((instruction) => instruction.getArguments().map((argument) => argument.getValue()))
    .map((path) => basename(path));
}

/**
 * Checks that the image has modes of its own: COPY keeps those of whoever builds, so what is from the repository gets a
 * mode as it is copied into the last stage, or in the stage that it is copied from.
 */
export function checkModes(stages: readonly Stage[]): string[] {
  return (stages.at(-1)?.instructions ?? [])
    .filter((instruction) => instruction.getKeyword() === 'COPY')
    .flatMap((instruction) => {
      const text = instruction.getArgumentsContent() ?? '';
      if (/--chmod=0?[0-7]*[4-7]\s/.test(instruction.getTextContent())) return [];
      const from = (instruction as Copy).getFromFlag()?.getValue();
      const source = stages.find(({ name }) => name !== '' && name === from);
      const names = instruction.getArguments().map((argument) => basename(argument.getValue()));
      if (source === undefined) return [`${text} keeps the modes of whoever builds`];
      const runs = argumentsOf(source, 'RUN').map((run) => run.join(' '));
      const isSet = (name: string) =>
        runs.some((run) => /chmod -R \S*go=rX (.*)/.exec(run)?.[1]?.split(' ').includes(name));
      return names
        .slice(0, -1)
        .filter((name) => copiedNames(source).includes(name) && !isSet(name))
        .map((name) => `${name} keeps the modes of whoever builds`);
    });
}

/** Checks that packages of the final stage come without development packages, and that no package runs a script. */
export function checkInstalls(stages: readonly Stage[]): string[] {
  const last = stages.at(-1);
  const shipped = (last?.instructions ?? [])
    .filter((instruction) => instruction.getKeyword() === 'COPY')
    .filter((instruction) => /node_modules/.test(instruction.getArgumentsContent() ?? ''))
    .map((instruction) => (instruction as Copy).getFromFlag()?.getValue());
  return stages.flatMap((stage) =>
    argumentsOf(stage, 'RUN')
      .map((run) => run.join(' '))
      .filter((run) => /\bnpm (ci|i|install)\b/.test(run))
      .flatMap((run) => [
        ...(run.includes('npm ci') ? [] : ['packages are not installed from the lock file']),
        ...(run.includes('--ignore-scripts') ? [] : ['packages may run scripts']),
        ...(shipped.includes(stage.name) && !run.includes('--omit=dev')
          ? ['development packages are shipped']
          : []),
      ]),
  );
}

/** Whether .dockerignore leaves a path out: the last pattern that meets it, or a directory above it, decides. */
export function isIgnored(path: string, ignoreText: string): boolean {
  const parts = path.split('/');
  const ancestors = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
  let ignored = false;
  for (const line of ignoreText.split('\n').map((each) => each.trim())) {
    if (line === '' || line.startsWith('#')) continue;
    const pattern = line.replace(/^!/, '').replace(/^\/|\/$/g, '');
    const expression = new RegExp(
      `^${pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*')}$`,
    );
    if (ancestors.some((each) => expression.test(each))) ignored = !line.startsWith('!');
  }
  return ignored;
}
