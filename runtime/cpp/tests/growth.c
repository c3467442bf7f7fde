/* Checks that a thousand calls of every kind do not increase the memory of the process. */
#include <caflow/caflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 4, WARM_UP = 100, CALLS = 1000, MOST_BYTES = 2 << 20 };

static long resident_bytes(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2) exit(77);
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void check(caflow_status status) {
    if (status == CAFLOW_OK) return;
    fprintf(stderr, "%s\n", caflow_last_error());
    exit(1);
}

static void call(caflow_model *model, unsigned seed) {
    uint8_t rgb[SIDE * SIDE * 3], large[16 * SIDE * SIDE * 3];
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_image condition = {rgb, SIDE, SIDE, 3 * SIDE, 3};
    caflow_image target = {large, 4 * SIDE, 4 * SIDE, 12 * SIDE, 3};
    caflow_results *results = NULL;
    caflow_stream *stream = NULL;

    memset(rgb, (int)(seed % 256), sizeof rgb);
    memset(large, (int)(seed % 256), sizeof large);
    options.n = 2;
    options.seed = seed;
    options.flags = CAFLOW_WITH_PIXELS | CAFLOW_WITH_LIKELIHOOD_MAPS;
    check(caflow_best_of(model, &condition, 1, &options, &results));
    caflow_free_results(results);
    check(caflow_score(model, &target, &condition, 1, 0, &results));
    caflow_free_results(results);
    check(caflow_judge(model, &target, &condition, 1, 0.1, 0, &results));
    caflow_free_results(results);
    check(caflow_open_stream(model, &options, NULL, &stream));
    check(caflow_draw_frame(stream, &condition, &results));
    caflow_free_results(results);
    caflow_close_stream(stream);
    condition.stride = 1; /* not valid: the call must fail */
    if (caflow_sample(model, &condition, 1, &options, &results) != CAFLOW_ERROR_INPUT || results) exit(1);
}

int main(int count, char **arguments) {
    caflow_open_options options = CAFLOW_OPEN_OPTIONS_INIT;
    caflow_model *model = NULL;
    long before, grown;
    unsigned k;

    if (count != 2) return 2;
    options.backend = "cpu";
    options.threads = 1;
    check(caflow_open(arguments[1], &options, &model));
    for (k = 0; k < WARM_UP; ++k) call(model, k);
    before = resident_bytes();
    for (k = 0; k < CALLS; ++k) call(model, k);
    grown = resident_bytes() - before;
    printf("%d calls grew the process by %ld kB\n", CALLS, grown / 1024);
    caflow_close(model);
    return grown <= MOST_BYTES ? 0 : 1;
}
