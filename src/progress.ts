/** How far long work has come. */
export interface Progress {
  readonly step: string;
  readonly done: number;
  /** undefined: nobody knows. */
  readonly total: number | undefined;
}
