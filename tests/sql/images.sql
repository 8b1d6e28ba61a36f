-- ml_image_embedding: images as bytes, as base64 and in Google's storage, by every provider that embeds them.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
-- Other files may have had a model of this name.
DO ml_cache_clear('mm');
SET @png = FROM_BASE64('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGNgYPj/n4EBQgEAH+4D/Yf+4WUAAAAASUVORK5CYII=');
SET @jpeg = x'FFD8FFE000104A464946';

-- Google, with the server's identity.
CALL mysql.ml_create_model_registration('mm', NULL, 'google', 'multimodal_embedding', 'multimodalembedding@001', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_image_embedding('mm', @png, NULL)) AS dimensions;
--@ last PATH
--@ last BODY
SELECT VECTOR_DIM(ml_image_embedding('mm', @jpeg)) AS bare, VECTOR_DIM(ml_image_embedding('image/jpeg' AS mimetype, @jpeg AS image, 'mm' AS model_id)) AS named;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_image_embedding('mm', 'gs://bucket/shoes/red.jpg', NULL)) AS from_storage;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_image_embedding('mm', 'gs://bucket/shoes/red', 'image/png')) AS from_storage;
SELECT mysql.ml_image_embedding('mm', 'gs://bucket/shoes/red', NULL);
CALL mysql.ml_set_model_options('mm', '{"dimensions": 128}');
SELECT VECTOR_DIM(mysql.ml_image_embedding('mm', @png, NULL)) AS dimensions;
-- What Google does not take, it says itself.
--@ clear
SELECT mysql.ml_image_embedding('mm', x'52494646000000005745425056503820', NULL);

-- Bytes, base64, base64 in lines and a data: URL are one image, which is asked for once; so is a constant one.
--@ requests
SET @lines = CONCAT(LEFT(TO_BASE64(@jpeg), 4), '\n', SUBSTRING(TO_BASE64(@jpeg), 5));
SET @v = HEX(ml_image_embedding('mm', @jpeg));
SELECT HEX(mysql.ml_image_embedding('mm', TO_BASE64(@jpeg), NULL)) = @v AS base64, HEX(ml_image_embedding('mm', @lines)) = @v AS in_lines,
  HEX(ml_image_embedding('mm', CONCAT('data:image/jpeg;base64,', TO_BASE64(@jpeg)))) = @v AS url;
--@ requests
SELECT COUNT(ml_image_embedding('mm', @png)) AS bare, COUNT(mysql.ml_image_embedding('mm', @png, NULL)) AS wrapped FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
--@ requests
CALL mysql.ml_cache_clear('mm');

-- NVIDIA's NV-CLIP: texts and images in one space.
CALL mysql.ml_create_model_registration('nvclip', '{{endpoint}}/nim/v1', 'nvidia_nim', 'multimodal_embedding', 'nvidia/nvclip', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_image_embedding('nvclip', @png, NULL)) AS dimensions, VECTOR_DIM(mysql.ml_embedding('nvclip', 'a red shoe')) AS text;
SELECT VECTOR_DIM(mysql.ml_image_embedding('nvclip', @jpeg, NULL)) AS dimensions;
--@ last BODY
SELECT mysql.ml_image_embedding('nvclip', 'gs://bucket/red.jpg', NULL);
SELECT mysql.ml_image_embedding('nvclip', x'474946383961', NULL);

-- A custom model: the template's {{input}} is the image in base64.
CALL mysql.ml_create_model_registration('own', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'multimodal_embedding', NULL, NULL, NULL, NULL, 'json:{"prompt":["{{input}}"]}', 'path:$[0]');
SELECT VECTOR_DIM(mysql.ml_image_embedding('own', @jpeg, NULL)) AS dimensions;
--@ last BODY

-- NULL for NULL, without a call.
--@ requests
SELECT mysql.ml_image_embedding('mm', NULL, NULL) AS image, mysql.ml_image_embedding(NULL, @png, NULL) AS model, ml_image_embedding('mm', NULL) AS bare;
--@ requests

-- Errors.
SELECT mysql.ml_image_embedding('mm', 'not an image', NULL);
SELECT mysql.ml_image_embedding('mm', '', NULL);
SELECT mysql.ml_image_embedding('mm', @png, 'text/plain');
SELECT ml_image_embedding('mm', 17);
SELECT ml_image_embedding('mm');
SELECT mysql.ml_image_embedding('mm', CONCAT(@png, REPEAT('x', 20971520)), NULL);
SELECT mysql.ml_image_embedding('nobody', @png, NULL);
CALL mysql.ml_create_model_registration('words', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_image_embedding('words', @png, NULL);
CALL mysql.ml_create_model_registration('texts', NULL, 'google', 'text_embedding', 'text-embedding-005', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_image_embedding('texts', @png, NULL);

-- Into a column, and near what it was made of.
CREATE DATABASE i;
CREATE TABLE i.pictures (id INT PRIMARY KEY, picture LONGBLOB, v VECTOR(128));
INSERT INTO i.pictures VALUES (1, @png, NULL), (2, @jpeg, NULL), (3, NULL, NULL);
UPDATE i.pictures SET v = mysql.ml_image_embedding('mm', picture, NULL);
SELECT id, v IS NULL AS missing FROM i.pictures ORDER BY id;
SELECT id FROM i.pictures WHERE v IS NOT NULL ORDER BY cosine_distance(v, mysql.ml_image_embedding('mm', @jpeg, NULL)) LIMIT 1;
DROP DATABASE i;

CALL mysql.ml_drop_model_registration('mm');
CALL mysql.ml_drop_model_registration('nvclip');
CALL mysql.ml_drop_model_registration('own');
CALL mysql.ml_drop_model_registration('words');
CALL mysql.ml_drop_model_registration('texts');
CALL mysql.ml_drop_sm_secret_registration('key');
