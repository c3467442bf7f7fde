/* Checks that the library halves the pixel budget when memory runs out, computes the same result, and then keeps no
 * memory for later runs. */
#include <caflow/caflow.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SIDE = 128, SMALL = 8, SAMPLES = 8, BUDGET = 1 << 20, SPARE_BYTES = 96 << 20, MOST_KEPT_BYTES = 32 << 20 };

static void check(caflow_status status) {
    if (status == CAFLOW_OK) return;
    fprintf(stderr, "%s\n", caflow_last_error());
    exit(1);
}

/* Read the size of the process's memory in bytes, all of it and what is resident. */
static void measure(long *size, long *resident) {
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%ld %ld", size, resident) != 2) exit(77);
    fclose(file);
    *size *= sysconf(_SC_PAGESIZE);
    *resident *= sysconf(_SC_PAGESIZE);
}

/* Limit the memory of the process to its present size plus `bytes`; 0 removes the limit. */
static void leave(size_t bytes) {
    long size, resident;
    struct rlimit limit;

    measure(&size, &resident);
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = bytes ? (rlim_t)size + bytes : limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
}

/* Return the log-likelihood of the best sample of a square image. */
static double best(caflow_model *model, size_t side) {
    static uint8_t rgb[SIDE * SIDE * 3];
    const caflow_image condition = {rgb, side, side, 3 * side, 3};
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_results *results = NULL;
    double nats;
    size_t k;

    for (k = 0; k < 3 * side * side; ++k) rgb[k] = (uint8_t)(k / 3 / side + k % (3 * side) / 3);
    options.n = SAMPLES;
    check(caflow_best_of(model, &condition, 1, &options, &results));
    nats = results->result[0]->log_likelihood;
    caflow_free_results(results);
    return nats;
}

int main(int count, char **arguments) {
    caflow_open_options options = CAFLOW_OPEN_OPTIONS_INIT;
    caflow_model_info info = CAFLOW_MODEL_INFO_INIT;
    caflow_model *model = NULL;
    double limited, unlimited;
    long size, before, after;

    if (count != 2) return 2;
    options.backend = "cpu";
    options.threads = 1;
    options.pixel_budget = 4 * BUDGET;
    check(caflow_open(arguments[1], &options, &model));
    measure(&size, &before);
    leave(SPARE_BYTES);
    limited = best(model, SIDE);
    check(caflow_info(model, &info));
    leave(0);
    best(model, SMALL); /* frees, at its end, what the large image took */
    measure(&size, &after);
    caflow_close(model);
    options.pixel_budget = BUDGET / 4;
    check(caflow_open(arguments[1], &options, &model));
    unlimited = best(model, SIDE);
    caflow_close(model);
    printf("with %d MB to spare a pixel budget of %d became %d, and %d MB were kept\n", SPARE_BYTES >> 20, 4 * BUDGET,
           (int)info.pixel_budget, (int)((after - before) >> 20));
    return info.pixel_budget < 4 * BUDGET && fabs(limited / unlimited - 1) < 1e-6 && after - before < MOST_KEPT_BYTES
               ? 0
               : 1;
}
