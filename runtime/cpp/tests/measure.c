/* What one process costs, as a line of JSON for benchmarks/cpp.py:
 *     measure BUNDLE HEIGHT WIDTH RGB SAMPLES THREADS CALLS
 * RGB is a file of the condition's bytes. */
#include <caflow/caflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double now_s(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(caflow_status status) {
    if (status == CAFLOW_OK) return;
    fprintf(stderr, "%s\n", caflow_last_error());
    exit(1);
}

static double call_s(caflow_model *model, const caflow_image *condition, const caflow_draw_options *options) {
    const double start = now_s();
    caflow_results *best = NULL;

    check(caflow_best_of(model, condition, 1, options, &best));
    caflow_free_results(best);
    return now_s() - start;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static unsigned char *read_rgb(const char *path, size_t bytes) {
    unsigned char *rgb = malloc(bytes);
    FILE *file = fopen(path, "rb");

    if (!rgb || !file || fread(rgb, 1, bytes, file) != bytes) exit(2);
    fclose(file);
    return rgb;
}

int main(int count, char **arguments) {
    caflow_open_options open_options = CAFLOW_OPEN_OPTIONS_INIT;
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_model *model = NULL;
    caflow_image condition;
    struct rusage usage;
    double start = now_s(), first, *seconds;
    size_t calls, k;

    if (count != 8) return 2;
    condition.height = strtoul(arguments[2], NULL, 10);
    condition.width = strtoul(arguments[3], NULL, 10);
    condition.stride = 3 * condition.width;
    condition.rgb = read_rgb(arguments[4], condition.height * condition.stride);
    options.samples = (uint32_t)strtoul(arguments[5], NULL, 10);
    open_options.threads = (uint32_t)strtoul(arguments[6], NULL, 10);
    open_options.backend = "cpu";
    calls = strtoul(arguments[7], NULL, 10);
    seconds = malloc((calls + 1) * sizeof *seconds);
    if (!seconds) return 2;

    check(caflow_open(arguments[1], &open_options, &model));
    call_s(model, &condition, &options);
    first = now_s() - start;
    for (k = 0; k < calls; ++k) seconds[k] = call_s(model, &condition, &options);
    qsort(seconds, calls, sizeof *seconds, compare);
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"first_s\": %.6f, \"call_s\": %.6f, \"peak_mb\": %.3f}\n", first, calls ? seconds[calls / 2] : 0.0,
           (double)usage.ru_maxrss / 1024);
    caflow_close(model);
    free((void *)(size_t)condition.rgb);
    free(seconds);
    return 0;
}
