/* Measures one process, for benchmarks/cpp.py:
 *     measure BUNDLE HEIGHT WIDTH RGB SAMPLES THREADS
 * RGB is a file with the bytes of the condition. Prints the seconds from the start to the first result. For each line
 * of standard input, it makes another call and prints its seconds. At the end it prints its peak memory in MB. */
#include <caflow/caflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static unsigned char *read_rgb(const char *path, size_t bytes) {
    unsigned char *rgb = malloc(bytes);
    FILE *file = fopen(path, "rb");

    if (!rgb || !file || fread(rgb, 1, bytes, file) != bytes) exit(2);
    fclose(file);
    return rgb;
}

static double peak_mb(void) {
    char line[256];
    double kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, "VmHWM:", 6)) kilobytes = strtod(line + 6, NULL);
    }
    if (file) fclose(file);
    return kilobytes / 1024;
}

int main(int count, char **arguments) {
    const double start = now_s();
    caflow_open_options open_options = CAFLOW_OPEN_OPTIONS_INIT;
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_model *model = NULL;
    caflow_image condition;
    unsigned char *rgb;
    char line[16];

    if (count != 7) return 2;
    condition.height = strtoul(arguments[2], NULL, 10);
    condition.width = strtoul(arguments[3], NULL, 10);
    condition.stride = 3 * condition.width;
    condition.channels = 3;
    condition.rgb = rgb = read_rgb(arguments[4], condition.height * condition.stride);
    options.n = (uint32_t)strtoul(arguments[5], NULL, 10);
    open_options.threads = (uint32_t)strtoul(arguments[6], NULL, 10);
    open_options.backend = "cpu";
    setvbuf(stdout, NULL, _IOLBF, 0);

    check(caflow_open(arguments[1], &open_options, &model));
    call_s(model, &condition, &options);
    printf("%.6f\n", now_s() - start);
    while (fgets(line, sizeof line, stdin)) printf("%.6f\n", call_s(model, &condition, &options));
    printf("%.3f\n", peak_mb());
    caflow_close(model);
    free(rgb);
    return 0;
}
