/* caflow: samples, best-of-N and likelihoods of images from a bundle (docs/reference/bundle.md), without Python.
 *
 *     caflow_model *model = NULL;
 *     caflow_results *best = NULL;
 *     caflow_image small = {rgb, height, width, 3 * width};
 *
 *     if (caflow_open("models/x4-photo.caflow", NULL, &model) != CAFLOW_OK ||
 *         caflow_best_of(model, &small, 1, NULL, &best) != CAFLOW_OK) {
 *         fprintf(stderr, "%s\n", caflow_last_error());
 *     } else {
 *         const caflow_result *result = best->result[0];
 *         printf("%zu x %zu, %.2f nats\n", result->width, result->height, result->log_likelihood);
 *     }
 *     caflow_free_results(best);
 *     caflow_close(model);
 *
 * Options: NULL means all defaults. A struct begins with `struct_size`, its sizeof where the application was compiled,
 * so that it can grow: begin with the macro of its name, CAFLOW_…_INIT. A field that is 0 or NULL has its default.
 *
 * Threads: any number of them may use one handle at the same time; only caflow_close must be the last call with it.
 *
 * Errors: what can fail returns a caflow_status, leaves its output pointer NULL, and caflow_last_error says what was
 * wanted, what came, and what to do. No C++ exception leaves the library.
 */
#ifndef CAFLOW_H
#define CAFLOW_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CAFLOW_API __attribute__((visibility("default")))
#else
#define CAFLOW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum caflow_status {
    CAFLOW_OK = 0,
    CAFLOW_ERROR_INPUT = 1,         /* an argument is not what it should be */
    CAFLOW_ERROR_BUNDLE = 2,        /* the folder is not a bundle that this version can use */
    CAFLOW_ERROR_BACKEND = 3,       /* the backend cannot run, here or with what it was given */
    CAFLOW_ERROR_NOT_FINITE = 4,    /* a sample or a likelihood is not finite, so there is none to give */
    CAFLOW_ERROR_OUT_OF_MEMORY = 5, /* memory ran out, with the smallest tiles too */
    CAFLOW_ERROR_INTERNAL = 6,      /* a mistake of this library */
    CAFLOW_ERROR_UNTYPICAL = 7      /* every sample of an image was rejected */
} caflow_status;

/* A model that is ready to run. */
typedef struct caflow_model caflow_model;

/* A video that is drawn frame by frame. */
typedef struct caflow_stream caflow_stream;

/* The number of the sample where there is none: the input, enlarged, is in its place. */
#define CAFLOW_NO_SAMPLE ((uint32_t)0xFFFFFFFF)

/* An image of the caller: uint8 RGB, row after row. It is read during the call only. */
typedef struct caflow_image {
    const uint8_t *rgb;
    size_t height;
    size_t width;
    size_t stride; /* bytes from one row to the next, 3 * width to 2^30 */
} caflow_image;

typedef struct caflow_open_options {
    size_t struct_size;
    /* "cpu", "cuda", "tensorrt" or "tensorrt-provider": that one runs, or it is an error. "auto", the default: "cuda"
     * where ONNX Runtime can use it, else "cpu". "tensorrt" runs the engines in the bundle that were built for the GPU
     * here (caflow-export --trt), if this library was built with TensorRT; "tensorrt-provider" has ONNX Runtime build
     * its own. */
    const char *backend;
    /* For "tensorrt-provider": a folder for what it builds; by default it is not kept. */
    const char *engine_cache;
    /* Target pixels in one run of the graphs, rows taken together: what bounds the memory; default 2^20. Larger images
     * are cut into tiles. Where memory runs out, half of it goes on. */
    uint64_t pixel_budget;
    /* Of tiles, in target pixels; default 64, none with CAFLOW_NO_OVERLAP. */
    int64_t overlap;
    /* On the CPU, up to 1024, shared by all calls with the handle; default one per core. */
    uint32_t threads;
    uint32_t flags; /* 0 or CAFLOW_WITHOUT_CALIBRATION */
} caflow_open_options;

/* Leave the bundle's calibration unread: nothing is judged then. */
#define CAFLOW_WITHOUT_CALIBRATION 1

#define CAFLOW_NO_OVERLAP ((int64_t)-1)
#define CAFLOW_OPEN_OPTIONS_INIT \
    { sizeof(caflow_open_options), NULL, NULL, 0, 0, 0, 0 }

/* What makes one sample better than another. */
enum {
    CAFLOW_RANK_LIKELIHOOD = 0,  /* its log-likelihood */
    CAFLOW_RANK_CONSISTENCY = 1, /* how well it matches the condition when it is degraded again, PSNR */
    CAFLOW_RANK_TYPICAL = 2      /* how close its bits per dimension are, level by level, to what is typical of them */
};

/* What is judged by its typicality, 0...1: the share of images of the bundle's calibration that are no more typical. */
enum {
    CAFLOW_JUDGE_SAMPLE = 0, /* a sample, as it was drawn, among samples of its temperature: costs nothing */
    CAFLOW_JUDGE_IMAGE = 1   /* its image, rounded, among true images: samples are scored in the order of their rank */
};

/* What is given where every sample of an image is rejected. */
enum {
    CAFLOW_OTHERWISE_BEST = 0,    /* the best of them */
    CAFLOW_OTHERWISE_BICUBIC = 1, /* the condition, enlarged */
    CAFLOW_OTHERWISE_ERROR = 2    /* CAFLOW_ERROR_UNTYPICAL */
};

/* What a result is. */
enum {
    CAFLOW_UNJUDGED = 0, /* nothing was asked of it, or the calibration knows no such images */
    CAFLOW_ACCEPTED = 1, /* typical enough */
    CAFLOW_BEST = 2,     /* the best of samples that were all rejected */
    CAFLOW_BICUBIC = 3,  /* the condition, enlarged */
    CAFLOW_REJECTED = 4  /* a scored image that is not typical enough */
};

/* What results carry besides; add them up. */
enum {
    CAFLOW_WITH_PIXELS = 1,         /* the continuous pixel values that were drawn */
    CAFLOW_WITH_LIKELIHOOD_MAPS = 2 /* the log-likelihood of each pixel */
};

typedef struct caflow_draw_options {
    size_t struct_size;
    /* N, of each image, up to 2^20; default 10. */
    uint32_t samples;
    /* Number of the first of them. A sample is the same whatever N is, so samples = 1 and first_sample = k draw the k-th
     * again. */
    uint32_t first_sample;
    /* Choose the noise; where both are equal, it is. */
    uint32_t seed;
    uint32_t frame;
    /* One temperature, or one for each level, coarsest first, and how many they are; default 0.8. */
    const double *temperature;
    size_t temperatures;
    /* Progressive best-of-N: how many samples run at each level, the first of them N, and how many levels there are. An
     * approximation: what is dropped might have won. By default none is. */
    const uint32_t *keep;
    size_t keeps;
    uint32_t rank;  /* CAFLOW_RANK_… */
    uint32_t flags; /* CAFLOW_WITH_… */
    /* Reject samples whose typicality is less; about that share of good ones is rejected by mistake, 0.01 is usual. By
     * default, 0, nothing is judged. */
    double min_typicality;
    uint32_t judge;     /* CAFLOW_JUDGE_… */
    uint32_t otherwise; /* CAFLOW_OTHERWISE_… */
    /* So many samples of an image, at most, are drawn in place of rejected ones; default 20, none with
     * CAFLOW_NO_REDRAWS. */
    uint32_t redraws;
    /* 1: for super-resolution, a sample, ranked as drawn, is changed to match the condition when it is reduced again, as
     * far as values in 0…255 go, and scored again as an image; default 0. */
    uint32_t consistent;
} caflow_draw_options;

#define CAFLOW_NO_REDRAWS ((uint32_t)0xFFFFFFFF)

#define CAFLOW_DRAW_OPTIONS_INIT \
    { sizeof(caflow_draw_options), 0, 0, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0 }

/* The noise of a stream's frames. */
enum {
    CAFLOW_NOISE_FIXED = 0,   /* the same for all frames of a scene, so that what does not move does not flicker */
    CAFLOW_NOISE_FRESH = 1,   /* new for each frame */
    CAFLOW_NOISE_DRIFTING = 2 /* `persistence` times that of the last frame, and new noise, as much as is missing */
};

typedef struct caflow_stream_options {
    size_t struct_size;
    double persistence; /* between 0 and 1, of CAFLOW_NOISE_DRIFTING; else 0 */
    uint32_t noise;     /* CAFLOW_NOISE_…; default fixed */
    uint32_t flags;     /* none yet: 0 */
} caflow_stream_options;

#define CAFLOW_STREAM_OPTIONS_INIT \
    { sizeof(caflow_stream_options), 0, 0, 0 }

typedef struct caflow_model_info {
    size_t struct_size;
    const char *task;      /* such as "super-resolution" */
    const char *precision; /* of the networks: "fp32", "fp16", "bf16" or "int8" */
    const char *backend;   /* what runs, such as "onnxruntime cpu" */
    uint32_t scale;        /* target side / condition side */
    uint32_t size_multiple;
    uint32_t levels;
    uint32_t channels;
    uint64_t pixel_budget; /* halved where memory ran out */
} caflow_model_info;

#define CAFLOW_MODEL_INFO_INIT \
    { sizeof(caflow_model_info), NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/* One (image, sample) pair, one scored image, or one frame. New fields are added at the end. */
typedef struct caflow_result {
    size_t image;    /* number of the condition it is of, or of the frame in its stream */
    uint32_t sample; /* number of the sample: with seed and frame it is drawn again; or CAFLOW_NO_SAMPLE */
    uint32_t levels; /* how many per_level are */
    size_t height;   /* of the target */
    size_t width;
    /* height x width x 3, rows without gaps; NULL of a scored image. */
    const uint8_t *rgb;
    /* log p(target | condition), nats: of a sample at the continuous point that was drawn, of a scored or a consistent
     * image at the middle of the cells of its integers; and its parts, the coarsest level first. NaN without a sample. */
    double log_likelihood;
    const double *per_level;
    double bits_per_dim; /* -log_likelihood / (3 * height * width * ln 2) */
    double consistency;  /* dB, where samples are ranked by it or made consistent; else NaN */
    /* With CAFLOW_WITH_PIXELS height x width x 3 continuous values, integer w stands for [w, w + 1); else NULL. */
    const float *pixels;
    /* With CAFLOW_WITH_LIKELIHOOD_MAPS height x width, nats per pixel; else NULL. */
    const float *log_likelihood_map;
    uint32_t starts_scene; /* 1 of the first frame of a scene of a stream, else 0 */
    uint32_t outcome;      /* CAFLOW_UNJUDGED … */
    uint32_t rejected;     /* how many samples of its image were rejected, or not finite */
    /* Why it was not accepted, for people, such as "level 0 is less likely than is typical: 3.1 standard deviations";
     * NULL where it was, or where nothing was asked of it. */
    const char *reason;
    double sample_typicality; /* of a sample as it was drawn; NaN where that is not known */
    double image_typicality;  /* of an image that was scored: given, consistent, or judged; NaN where it is not known */
    /* Of each level, the coarsest first, NULL where it is not known: the typicality of its bits per dimension by
     * themselves, and by how many standard deviations these are above what is expected. */
    const double *level_typicality;
    const double *level_residuals;
} caflow_result;

/* Of one call. */
typedef struct caflow_results {
    size_t count;
    const caflow_result *const *result;
} caflow_results;

/* The library's version, "MAJOR.MINOR.PATCH". Any thread; the text is never freed. */
CAFLOW_API const char *caflow_version(void);

/* What went wrong in this thread's last call that failed; "" before any. Valid until this thread's next call. */
CAFLOW_API const char *caflow_last_error(void);

/* Open the bundle in a folder, its files checked against their hashes. Graphs are loaded when they are first needed.
 * The handle is the caller's, who gives it to caflow_close. Any thread. */
CAFLOW_API caflow_status caflow_open(const char *folder, const caflow_open_options *options, caflow_model **model);

/* Let go of a handle, which no thread uses any more; NULL is fine. Results stay valid. */
CAFLOW_API void caflow_close(caflow_model *model);

/* Fill in `info`, whose struct_size the caller set. Its texts live as long as the handle. Any thread. */
CAFLOW_API caflow_status caflow_info(const caflow_model *model, caflow_model_info *info);

/* The best of N samples of each condition: one result per condition, in their order. What is drawn for an image depends
 * neither on the others nor on N. The results are the caller's, who gives them to caflow_free_results. Any thread. */
CAFLOW_API caflow_status caflow_best_of(caflow_model *model, const caflow_image *conditions, size_t count,
                                        const caflow_draw_options *options, caflow_results **results);

/* All N samples of each condition, N results per condition, the best of each first; without `keep`. The results are the
 * caller's, who gives them to caflow_free_results. Any thread. */
CAFLOW_API caflow_status caflow_sample(caflow_model *model, const caflow_image *conditions, size_t count,
                                       const caflow_draw_options *options, caflow_results **results);

/* The log-likelihood of targets, each `scale` times its condition in height and width: one result per pair, in their
 * order. `flags`: 0 or CAFLOW_WITH_LIKELIHOOD_MAPS. The results are the caller's, who gives them to
 * caflow_free_results. Any thread. */
CAFLOW_API caflow_status caflow_score(caflow_model *model, const caflow_image *targets, const caflow_image *conditions,
                                      size_t count, uint32_t flags, caflow_results **results);

/* The same, and a verdict on each target: its outcome is CAFLOW_ACCEPTED, CAFLOW_REJECTED where its image_typicality is
 * below `min_typicality`, or CAFLOW_UNJUDGED. Any thread. */
CAFLOW_API caflow_status caflow_judge(caflow_model *model, const caflow_image *targets, const caflow_image *conditions,
                                      size_t count, double min_typicality, uint32_t flags, caflow_results **results);

/* Begin a video. The best of N is chosen on the first frame of each scene, and its number is kept through the scene:
 * scenes are told apart by their colours and sizes. Frames are judged as drawn, and none is drawn again. `draw` is
 * without `keep`, `consistent` and CAFLOW_JUDGE_IMAGE; its `frame` and `redraws` are not used. The handle is the
 * caller's, who gives it to caflow_close_stream, before or after the model's. Any thread. */
CAFLOW_API caflow_status caflow_open_stream(caflow_model *model, const caflow_draw_options *draw,
                                            const caflow_stream_options *options, caflow_stream **stream);

/* Draw the next frame: one result. Where no sample of it is finite, that is the frame enlarged, without a likelihood. A
 * frame that fails counts all the same. The results are the caller's, who gives them to caflow_free_results. One thread
 * at a time. */
CAFLOW_API caflow_status caflow_draw_frame(caflow_stream *stream, const caflow_image *frame, caflow_results **results);

/* Let go of a stream, which no thread uses any more; NULL is fine. Results stay valid. */
CAFLOW_API void caflow_close_stream(caflow_stream *stream);

/* Let go of results; NULL is fine. Any thread. */
CAFLOW_API void caflow_free_results(caflow_results *results);

#ifdef __cplusplus
}
#endif

#endif
