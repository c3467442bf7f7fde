/* Checks that the library halves the pixel budget when memory runs out, and computes the same result. */
#include <caflow/caflow.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SIDE = 128, SAMPLES = 8, BUDGET = 1 << 20, SPARE_BYTES = 96 << 20 };

static void check(caflow_status status) {
    if (status == CAFLOW_OK) return;
    fprintf(stderr, "%s\n", caflow_last_error());
    exit(1);
}

/* Limit the memory of the process to its present size plus `bytes`; 0 removes the limit. */
static void leave(size_t bytes) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    struct rlimit limit;

    if (!file || fscanf(file, "%ld", &pages) != 1) exit(77);
    fclose(file);
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = bytes ? (rlim_t)(pages * sysconf(_SC_PAGESIZE)) + bytes : limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
}

static double best(caflow_model *model) {
    static uint8_t rgb[SIDE * SIDE * 3];
    const caflow_image condition = {rgb, SIDE, SIDE, 3 * SIDE};
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_results *results = NULL;
    double nats;
    size_t k;

    for (k = 0; k < sizeof rgb; ++k) rgb[k] = (uint8_t)(k / 3 / SIDE + k % (3 * SIDE) / 3);
    options.samples = SAMPLES;
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

    if (count != 2) return 2;
    options.backend = "cpu";
    options.threads = 1;
    options.pixel_budget = 4 * BUDGET;
    check(caflow_open(arguments[1], &options, &model));
    leave(SPARE_BYTES);
    limited = best(model);
    check(caflow_info(model, &info));
    leave(0);
    caflow_close(model);
    options.pixel_budget = BUDGET / 4;
    check(caflow_open(arguments[1], &options, &model));
    unlimited = best(model);
    caflow_close(model);
    printf("with %d MB to spare a pixel budget of %d became %d\n", SPARE_BYTES >> 20, 4 * BUDGET, (int)info.pixel_budget);
    return info.pixel_budget < 4 * BUDGET && fabs(limited / unlimited - 1) < 1e-6 ? 0 : 1;
}
