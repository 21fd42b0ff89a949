#include "data/demo/dataset.h"

#include "base/mem.h"
#include "data/demo/catalogue.h"

#include <cairo.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SHEET_WIDTH  1200
#define MAX_COLUMNS  8
#define MARGIN       14
#define GAP          6
#define NAMES_HEIGHT 34
#define TITLE_HEIGHT 30
#define ROWS         3 /* pairs one below the other: a synthetic one, two real ones */

static const Domain row_domain[ROWS] = {DOMAIN_SYNTHETIC, DOMAIN_REAL, DOMAIN_REAL};

typedef struct {
    const DemoSet *set;
    int columns, blocks, tile; /* classes side by side, rows of them, pixels of a picture's side */
    Picture (*pictures)[DEMO_PICTURES]; /* [classes, ROWS] */
} Sheet;

static void render_tile(void *context, int64_t index)
{
    Sheet *sheet = context;
    int row = (int)(index % ROWS);
    SceneAddress address = {.seed = sheet->set->settings.seed,
                            .domain = row_domain[row],
                            .label = (int)(index / ROWS),
                            .model = 1 + row};
    demo_render(&address, sheet->tile, sheet->pictures[index]);
}

/* y of a pair's colour picture below its block's top. */
static int row_top(const Sheet *sheet, int row)
{
    int titles = row == 0 ? 1 : 2;
    return NAMES_HEIGHT + titles * TITLE_HEIGHT + row * (2 * sheet->tile + 2 * GAP);
}

static int block_height(const Sheet *sheet)
{
    return row_top(sheet, ROWS) + GAP;
}

static void paste(const Picture *picture, cairo_surface_t *surface, int left, int top)
{
    int stride = cairo_image_surface_get_stride(surface);
    unsigned char *data = cairo_image_surface_get_data(surface);
    for (int y = 0; y < picture->height; y++) {
        for (int x = 0; x < picture->width; x++) {
            const uint8_t *rgb = picture->pixels + (y * picture->width + x) * 3;
            uint32_t word = 0xFF000000u | (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
            memcpy(data + (size_t)(top + y) * (size_t)stride + (size_t)(left + x) * 4, &word, 4);
        }
    }
}

static void write_words(cairo_t *cairo, const char *words, double x, double y, double size,
                        bool centred)
{
    cairo_text_extents_t extents;
    cairo_set_font_size(cairo, size);
    cairo_text_extents(cairo, words, &extents);
    cairo_move_to(cairo, centred ? x - extents.width / 2 - extents.x_bearing : x, y);
    cairo_show_text(cairo, words);
}

static int column_left(const Sheet *sheet, int column)
{
    int used = sheet->columns * (sheet->tile + GAP) - GAP;
    return (SHEET_WIDTH - used) / 2 + column * (sheet->tile + GAP);
}

static void label_block(const Sheet *sheet, cairo_t *cairo, int block)
{
    int top = MARGIN + block * block_height(sheet);
    cairo_set_source_rgb(cairo, .12, .13, .15);
    for (int column = 0; column < sheet->columns; column++) {
        int label = block * sheet->columns + column;
        if (label < sheet->set->settings.classes) {
            char *name = mem_string(catalogue[label].name);
            for (char *blank = name; (blank = strchr(blank, '_'));) {
                *blank = ' ';
            }
            write_words(cairo, name, column_left(sheet, column) + sheet->tile / 2.0, top + 22, 17,
                        true);
            free(name);
        }
    }
    cairo_set_source_rgb(cairo, .38, .4, .44);
    int left = column_left(sheet, 0);
    write_words(cairo, "source: synthetic, labelled (colours above their surface normals)", left,
                top + row_top(sheet, 0) - 9, 14, false);
    write_words(cairo, "target: real, labels never seen in training (two objects of each class)",
                left, top + row_top(sheet, 1) - 9, 14, false);
}

static void paste_all(const Sheet *sheet, cairo_surface_t *surface)
{
    for (int i = 0; i < sheet->set->settings.classes * ROWS; i++) {
        int label = i / ROWS;
        int left = column_left(sheet, label % sheet->columns);
        int top = MARGIN + label / sheet->columns * block_height(sheet) + row_top(sheet, i % ROWS);
        paste(&sheet->pictures[i][DEMO_COLOUR], surface, left, top);
        paste(&sheet->pictures[i][DEMO_NORMALS], surface, left, top + sheet->tile);
    }
}

static Picture to_picture(cairo_surface_t *surface)
{
    Picture picture = {.width = cairo_image_surface_get_width(surface),
                       .height = cairo_image_surface_get_height(surface)};
    picture.pixels = mem_alloc((size_t)picture.width * (size_t)picture.height * 3);
    const unsigned char *data = cairo_image_surface_get_data(surface);
    int stride = cairo_image_surface_get_stride(surface);
    for (int i = 0; i < picture.width * picture.height; i++) {
        uint32_t word;
        memcpy(&word,
               data + (size_t)(i / picture.width) * (size_t)stride +
                   (size_t)(i % picture.width) * 4,
               4);
        picture.pixels[i * 3] = (uint8_t)(word >> 16);
        picture.pixels[i * 3 + 1] = (uint8_t)(word >> 8);
        picture.pixels[i * 3 + 2] = (uint8_t)word;
    }
    return picture;
}

static int draw_sheet(const Sheet *sheet, const char *path, Err *err)
{
    int height = 2 * MARGIN + sheet->blocks * block_height(sheet);
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, SHEET_WIDTH, height);
    cairo_t *cairo = cairo_create(surface);
    cairo_set_source_rgb(cairo, 1, 1, 1);
    cairo_paint(cairo);
    cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    for (int block = 0; block < sheet->blocks; block++) {
        label_block(sheet, cairo, block);
    }
    cairo_status_t status = cairo_status(cairo);
    cairo_destroy(cairo);
    cairo_surface_flush(surface);
    int rc = -1;
    if (status == CAIRO_STATUS_SUCCESS) {
        paste_all(sheet, surface);
        Picture picture = to_picture(surface);
        rc = picture_write_png(&picture, path, err);
        picture_free(&picture);
    } else {
        err_set(err, "%s: cairo cannot draw the sheet: %s", path, cairo_status_to_string(status));
    }
    cairo_surface_destroy(surface);
    return rc;
}

int demo_write_sheet(const DemoSet *set, const char *path, Pool *pool, Err *err)
{
    int classes = set->settings.classes;
    Sheet sheet = {.set = set};
    sheet.columns = classes < MAX_COLUMNS ? classes : MAX_COLUMNS;
    sheet.blocks = (classes + sheet.columns - 1) / sheet.columns;
    sheet.tile = (SHEET_WIDTH - 2 * MARGIN + GAP) / MAX_COLUMNS - GAP;
    sheet.pictures = mem_zeroed((size_t)(classes * ROWS), sizeof *sheet.pictures);
    pool_run(pool, (int64_t)classes * ROWS, render_tile, &sheet);
    int rc = draw_sheet(&sheet, path, err);
    for (int i = 0; i < classes * ROWS; i++) {
        picture_free(&sheet.pictures[i][DEMO_COLOUR]);
        picture_free(&sheet.pictures[i][DEMO_NORMALS]);
    }
    free(sheet.pictures);
    return rc;
}
