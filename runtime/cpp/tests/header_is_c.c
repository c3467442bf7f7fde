/* Checks that the header is valid C, and that errors behave as it says. */
#include <caflow/caflow.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    caflow_open_options options = CAFLOW_OPEN_OPTIONS_INIT;
    caflow_draw_options draw = CAFLOW_DRAW_OPTIONS_INIT;
    caflow_stream_options frames = CAFLOW_STREAM_OPTIONS_INIT;
    caflow_model_info info = CAFLOW_MODEL_INFO_INIT;
    caflow_model *model = NULL;
    const int begins_empty = strcmp(caflow_last_error(), "") == 0;
    const int refuses = caflow_open("nowhere", &options, &model) == CAFLOW_ERROR_BUNDLE && model == NULL;

    printf("caflow %s: %s\n", caflow_version(), caflow_last_error());
    caflow_close(NULL);
    caflow_close_stream(NULL);
    caflow_free_results(NULL);
    return begins_empty && refuses && strstr(caflow_last_error(), "there is no such folder") && draw.struct_size &&
                   frames.struct_size && info.struct_size
               ? 0
               : 1;
}
