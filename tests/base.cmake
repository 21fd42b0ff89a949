rodeo_test(test_rng SOURCES test_rng.c LINKS rodeo_base)
rodeo_test(test_text SOURCES test_text.c LINKS rodeo_base)
rodeo_test(test_pool SOURCES test_pool.c LINKS rodeo_base)
